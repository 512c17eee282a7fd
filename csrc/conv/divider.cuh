// Division by a number that the host knows, for index arithmetic in kernels.
#pragma once

#include "common/cuda_utils.cuh"

namespace caffe_compat {
namespace conv_cuda {

// Divides numbers below 2^31 by a multiplication and a shift, where a division takes the GPU some
// twenty instructions (Granlund and Montgomery, PLDI 1994).
struct Divider {
  uint32_t divisor, multiplier, shift;

  explicit Divider(int64_t d) : divisor(static_cast<uint32_t>(d)), shift(0) {
    while (shift < 31 && (uint64_t{1} << shift) < divisor) ++shift;
    multiplier = static_cast<uint32_t>(
        ((uint64_t{1} << 32) * ((uint64_t{1} << shift) - divisor)) / divisor + 1);
  }
  __host__ __device__ uint32_t quotient(uint32_t n) const {
    const uint64_t high = (static_cast<uint64_t>(n) * multiplier) >> 32;
    return static_cast<uint32_t>((high + n) >> shift);
  }
  __host__ __device__ uint32_t divmod(uint32_t n, uint32_t& rest) const {
    const uint32_t q = quotient(n);
    rest = n - q * divisor;
    return q;
  }
};

}  // namespace conv_cuda

}  // namespace caffe_compat
