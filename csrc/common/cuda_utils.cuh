// What every CUDA kernel here is written with.
//
// A *_kernels.cuh file holds kernels and their launchers on raw pointers; a *_cuda.cu file ties
// them to PyTorch.  The former name no CUDA header but this one, so that tests can compile the same
// source with a C++ compiler and run it on the host: <host_cuda/...> below is in tests/host_cuda,
// on the include path of those tests only.
//
// Rules: sizes and offsets are 64-bit; each launch goes through CAFFE_COMPAT_LAUNCH, which checks
// it; no fast-math (LRN's float32 roots are the device's own, within 2^-22: lrn_device.cuh); no
// float atomics.
#pragma once

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <cstdint>

#if defined(__CUDACC__)
#include <c10/cuda/CUDAException.h>
#include <cuda_runtime.h>

#define CAFFE_COMPAT_SHARED(type, name, count) __shared__ type name[count]
#define CAFFE_COMPAT_LAUNCH(kernel, grid, block, stream, ...) \
  do {                                                        \
    kernel<<<grid, block, 0, stream>>>(__VA_ARGS__);          \
    C10_CUDA_KERNEL_LAUNCH_CHECK();                           \
  } while (false)
// With shared memory beyond the 48 KiB that a kernel has without asking.
#define CAFFE_COMPAT_DYNAMIC_SHARED(name) extern __shared__ __align__(128) char name[]
#define CAFFE_COMPAT_LAUNCH_DYNAMIC(kernel, grid, block, bytes, stream, ...)               \
  do {                                                                                     \
    C10_CUDA_CHECK(                                                                        \
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes)); \
    kernel<<<grid, block, bytes, stream>>>(__VA_ARGS__);                                   \
    C10_CUDA_KERNEL_LAUNCH_CHECK();                                                        \
  } while (false)

namespace caffe_compat {

// The hardware's square root, within 2^-22 of the exact one, in a few instructions where the exact
// one takes twenty.
__device__ __forceinline__ float approximate_sqrt(float x) {
  float y;
  asm("sqrt.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// Makes the compiler keep what has been worked out before a loop, where it would rather work it out
// anew, or add it up in another order, in each iteration.
__device__ __forceinline__ void keep(int& value) { asm volatile("" : "+r"(value)); }
__device__ __forceinline__ void keep(uint32_t& value) { asm volatile("" : "+r"(value)); }
__device__ __forceinline__ void keep(const char*& value) { asm volatile("" : "+l"(value)); }

// Makes the compiler end with what stands before this, and set its registers free, before it begins
// with what stands behind: a branch that is never taken.
__device__ __forceinline__ void part_here() {
  if (threadIdx.x > 1024) asm volatile("trap;");
}

// base + count * bytes as one instruction: ptxas fuses this product and sum, and takes a mad.wide
// apart.  Volatile, so that nvcc does not work the product out before a loop and add to it there,
// which takes two.
__device__ __forceinline__ const char* advanced(const char* base, int count, int bytes) {
  int64_t product;
  asm volatile("mul.wide.s32 %0, %1, %2;" : "=l"(product) : "r"(count), "r"(bytes));
  return base + product;
}

// 16 aligned bytes to global memory as one instruction, where nvcc splits the plain assignment.
__device__ __forceinline__ void store_16_bytes(const void* from, void* to) {
  const uint4 words = *reinterpret_cast<const uint4*>(from);
  asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(__cvta_generic_to_global(to)),
               "r"(words.x), "r"(words.y), "r"(words.z), "r"(words.w)
               : "memory");
}

}  // namespace caffe_compat
#else
#include <host_cuda/machine.h>
#endif

namespace caffe_compat {

constexpr int kThreads = 256;           // of a block
constexpr int64_t kMostGridYZ = 65535;  // CUDA's limit of a grid's y and z
// Two blocks on each of an H100's 132 SMs.  A constant, so that nothing that is decided by it
// differs from GPU to GPU.
constexpr int64_t kFullGridBlocks = 2 * 132;

// The type to compute in: float32 for 16-bit types, else the type itself.
template <typename T>
struct Compute {
  using type = float;
};
template <>
struct Compute<double> {
  using type = double;
};
template <typename T>
using compute_t = typename Compute<T>::type;

// N neighbouring elements that one instruction loads or stores: up to 16 bytes.
template <typename T, int N>
struct alignas(sizeof(T) * N) AlignedVector {
  T values[N];
};

// The most elements that one instruction moves.
template <typename T>
constexpr int kVectorLength = 16 / sizeof(T);

template <int N, typename T>
__device__ __forceinline__ void load(const T* from, compute_t<T> (&to)[N]) {
  const AlignedVector<T, N> vector = *reinterpret_cast<const AlignedVector<T, N>*>(from);
#pragma unroll
  for (int i = 0; i < N; ++i) to[i] = static_cast<compute_t<T>>(vector.values[i]);
}

template <int N, typename T>
__device__ __forceinline__ void store(const compute_t<T> (&from)[N], T* to) {
  AlignedVector<T, N> vector;
#pragma unroll
  for (int i = 0; i < N; ++i) vector.values[i] = static_cast<T>(from[i]);
  *reinterpret_cast<AlignedVector<T, N>*>(to) = vector;
}

// To global memory, a vector of 16 bytes as one instruction: nvcc splits the plain assignment in
// some kernels' loops.
template <int V, typename T>
__device__ __forceinline__ void store_whole(const compute_t<T> (&from)[V], T* to) {
  if constexpr (sizeof(T) * V == 16) {
    alignas(16) T vector[V];
#pragma unroll
    for (int v = 0; v < V; ++v) vector[v] = static_cast<T>(from[v]);
    store_16_bytes(vector, to);
  } else {
    store<V>(from, to);
  }
}

// Whether rows of `row` elements that start at these addresses can be read and written in vectors
// of n.
template <typename T>
bool vectors_fit(int64_t row, int n, const T* a, const T* b, const T* c = nullptr) {
  const auto bits = reinterpret_cast<uintptr_t>(a) | reinterpret_cast<uintptr_t>(b) |
                    reinterpret_cast<uintptr_t>(c);
  return row % n == 0 && bits % (n * sizeof(T)) == 0;
}

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

__device__ __forceinline__ int64_t global_thread() {
  return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}

// Blocks of kThreads for `threads` threads in one dimension: up to 2^31 - 1 blocks, 5 * 10^11
// threads.
inline dim3 blocks_for(int64_t threads) {
  return dim3(static_cast<unsigned>(ceil_div(threads, kThreads)));
}

}  // namespace caffe_compat
