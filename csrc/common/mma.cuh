// Tensor-core products behind a wrapper: PTX on the device, the same arithmetic across a warp of
// fibers on the host.
#pragma once

#include <cstring>

#include "common/cuda_utils.cuh"

namespace caffe_compat {

// One lane's share of a 16 x 8 (A, row-major), 8 x 8 (B, column-major) and 16 x 8 (C) matrix.  With
// row = lane / 4 and column = lane % 4, as PTX lays out mma.m16n8k8:
//   a: (row, column), (row + 8, column), (row, column + 4), (row + 8, column + 4)
//   b: (column, row), (column + 4, row)
//   c: (row, 2 column), (row, 2 column + 1), (row + 8, 2 column), (row + 8, 2 column + 1)
struct FragmentA {
  float values[4];
};
struct FragmentB {
  float values[2];
};
struct FragmentC {
  float values[4];
};

// Nearest number with TF32's 10 bits of mantissa, ties away from zero.
__device__ __forceinline__ float round_to_tf32(float value) {
#if defined(__CUDA_ARCH__)
  uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(value));
  return __uint_as_float(bits);
#else
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  if ((bits & 0x7f800000u) != 0x7f800000u) bits = (bits + 0x1000u) & ~0x1fffu;
  std::memcpy(&value, &bits, sizeof bits);
  return value;
#endif
}

// c += a b, by all lanes of a warp together; a and b hold TF32 numbers.
__device__ __forceinline__ void multiply_tf32(const FragmentA& a, const FragmentB& b,
                                              FragmentC& c) {
#if defined(__CUDA_ARCH__)
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(c.values[0]), "+f"(c.values[1]), "+f"(c.values[2]), "+f"(c.values[3])
      : "r"(__float_as_uint(a.values[0])), "r"(__float_as_uint(a.values[1])),
        "r"(__float_as_uint(a.values[2])), "r"(__float_as_uint(a.values[3])),
        "r"(__float_as_uint(b.values[0])), "r"(__float_as_uint(b.values[1])));
#elif !defined(__CUDACC__)
  struct Lane {
    FragmentA a;
    FragmentB b;
  };
  host_cuda::Machine& machine = host_cuda::Machine::get();
  const auto lanes = machine.gather(Lane{a, b});
  const unsigned lane = machine.lane();
  for (unsigned i = 0; i < 4; ++i) {
    const unsigned row = lane / 4 + 8 * (i / 2), column = lane % 4 * 2 + i % 2;
    for (unsigned k = 0; k < 8; ++k) {
      c.values[i] += lanes[row % 8 * 4 + k % 4]->a.values[row / 8 + 2 * (k / 4)] *
                     lanes[column * 4 + k % 4]->b.values[k / 4];
    }
  }
#endif
}

}  // namespace caffe_compat
