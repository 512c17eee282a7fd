// The tensor cores' instructions behind functions: mma (a product of small matrices, by a warp
// together), ldmatrix (the load of its operands) and the rounding of float32 to TF32.
#pragma once

#include <cstring>
#include <type_traits>

#include "common/cuda_utils.cuh"

namespace caffe_compat {

// One lane's share of A (16 rows, row-major), B (8 columns, column-major) and C (16 x 8), as PTX
// lays them out for mma.m16n8k8 (TF32: a word holds one number) and mma.m16n8k16 (16-bit types: two
// neighbours along k).  With row = lane / 4, column = lane % 4, and k counted in words:
//   a: (row, column), (row + 8, column), (row, column + 4), (row + 8, column + 4)
//   b: (column, row), (column + 4, row)
//   c: (row, 2 column), (row, 2 column + 1), (row + 8, 2 column), (row + 8, 2 column + 1)
struct FragmentA {
  uint32_t words[4];
};
struct FragmentB {
  uint32_t words[2];
};
struct FragmentC {
  float values[4];
};

// Stands for the type of a TF32 number: a float32 of which the tensor core reads the upper 19 bits.
struct Tf32 {};

__host__ __device__ __forceinline__ uint32_t float_bits(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}
__host__ __device__ __forceinline__ float bits_float(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

// value = big + small up to half of float32's last bit or so.  big is cut, not rounded, and small
// is rounded by an addition to its bits, because cvt.rna runs at a fraction of the rate of plain
// arithmetic.  An infinity or a NaN stays in big.
__device__ __forceinline__ void split_to_tf32(float value, uint32_t& big, uint32_t& small) {
  // TF32 keeps float32's upper 19 bits; half of its last bit is the topmost of the other 13.
  constexpr uint32_t kTf32Bits = 0xffffe000u, kHalfOfLastBit = 0x1000u;
  big = float_bits(value) & kTf32Bits;
  small = (float_bits(value - bits_float(big)) + kHalfOfLastBit) & kTf32Bits;
}

// Rounding to TF32 in one instruction, where cvt.rna is two.  The tensor core cuts up to one unit
// off TF32's last bit; before that this adds 0.36 of a unit (to 1.0) to 0.72 (to 1.99), half of one
// on average.  The error is up to 0.72 of a unit and 7 % above that of rounding in the mean square;
// numbers that TF32 has stay as they are, and so do infinities and NaNs.
__device__ __forceinline__ float ready_for_tf32(float value) {
  return value * (1 + 0.72f / (1 << 11));
}

// value = big + small up to 2^-21.5 of it or so, where the tensor core cuts both: three
// instructions, and an error of either sign.  (Cut, not rounded, big would be value's own bits; the
// compiler sees that, and copies registers to bring them into the order of a fragment.)  An
// infinity gives NaN.
__device__ __forceinline__ void split_for_tf32(float value, uint32_t& big, uint32_t& small) {
  big = float_bits(ready_for_tf32(value));
  small = float_bits(value - bits_float(big & 0xffffe000u));
}

}  // namespace caffe_compat

#if defined(__CUDACC__)

namespace caffe_compat {

// Nearest number with TF32's 10 bits of mantissa, ties away from zero.
__device__ __forceinline__ float round_to_tf32(float value) {
  uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(value));
  return bits_float(bits);
}

// a b + c, by all lanes of a warp together.  Number: Tf32, c10::BFloat16 or c10::Half.
template <typename Number>
__device__ __forceinline__ FragmentC multiply_add(const FragmentA& a, const FragmentB& b,
                                                  const FragmentC& c) {
  FragmentC sum;
#define CAFFE_COMPAT_MMA(shape_and_types)                                                    \
  asm volatile(                                                                              \
      "mma.sync.aligned." shape_and_types                                                    \
      " {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%10,%11,%12,%13};"                           \
      : "=f"(sum.values[0]), "=f"(sum.values[1]), "=f"(sum.values[2]), "=f"(sum.values[3])   \
      : "r"(a.words[0]), "r"(a.words[1]), "r"(a.words[2]), "r"(a.words[3]), "r"(b.words[0]), \
        "r"(b.words[1]), "f"(c.values[0]), "f"(c.values[1]), "f"(c.values[2]), "f"(c.values[3]))
  if constexpr (std::is_same_v<Number, Tf32>) {
    CAFFE_COMPAT_MMA("m16n8k8.row.col.f32.tf32.tf32.f32");
  } else if constexpr (std::is_same_v<Number, c10::BFloat16>) {
    CAFFE_COMPAT_MMA("m16n8k16.row.col.f32.bf16.bf16.f32");
  } else {
    CAFFE_COMPAT_MMA("m16n8k16.row.col.f32.f16.f16.f32");
  }
#undef CAFFE_COMPAT_MMA
  return sum;
}

// Four matrices of 8 rows of 16 bytes in shared memory, by all lanes of a warp together: lane i
// states the address of row i % 8 of matrix i / 8, and gets as word w
//   of matrix w: word i % 4 of row i / 4;
//   transposed, in 16-bit elements: elements i / 4 of rows 2 (i % 4) and 2 (i % 4) + 1.
template <bool transposed>
__device__ __forceinline__ void load_matrices(const char* row, uint32_t (&words)[4]) {
  const uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  if constexpr (transposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
                 : "r"(address));
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
                 : "r"(address));
  }
}

// 16 aligned bytes of shared memory for each lane of a warp, by all lanes together.
__device__ __forceinline__ void load_16_bytes(const char* from, uint32_t (&words)[4]) {
  const uint4 bytes = *reinterpret_cast<const uint4*>(from);
  words[0] = bytes.x, words[1] = bytes.y, words[2] = bytes.z, words[3] = bytes.w;
}

// 8 likewise.
__device__ __forceinline__ void load_8_bytes(const char* from, uint32_t (&words)[2]) {
  const uint2 bytes = *reinterpret_cast<const uint2*>(from);
  words[0] = bytes.x, words[1] = bytes.y;
}

}  // namespace caffe_compat

#else
#include <host_cuda/mma.h>
#endif
