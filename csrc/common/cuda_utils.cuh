// What every CUDA kernel here is written with.  Kernels and launchers in *_kernels.cuh use raw
// pointers and this file only, so that host_cuda.h can run the same source on the host; the
// *_cuda.cu files tie them to PyTorch.
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
#else
#include "common/host_cuda.h"
#endif

namespace caffe_compat {

constexpr int kThreads = 256;

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

// N neighbours, moved as one access of up to 16 bytes.
template <typename T, int N>
struct alignas(sizeof(T) * N) Pack {
  T values[N];
};

// How many neighbours one access moves at most: 16 bytes of them.
template <typename T>
constexpr int kPack = 16 / sizeof(T);

template <int N, typename T>
__device__ __forceinline__ void load(const T* from, compute_t<T> (&to)[N]) {
  const Pack<T, N> pack = *reinterpret_cast<const Pack<T, N>*>(from);
#pragma unroll
  for (int i = 0; i < N; ++i) to[i] = static_cast<compute_t<T>>(pack.values[i]);
}

template <int N, typename T>
__device__ __forceinline__ void store(const compute_t<T> (&from)[N], T* to) {
  Pack<T, N> pack;
#pragma unroll
  for (int i = 0; i < N; ++i) pack.values[i] = static_cast<T>(from[i]);
  *reinterpret_cast<Pack<T, N>*>(to) = pack;
}

// Whether rows of `row` elements that start at these addresses can be moved in packs of N.
template <typename T>
bool packs_fit(int64_t row, int n, const T* a, const T* b, const T* c = nullptr) {
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
