// Epilogue on vectors.  Include after common/simd.h.
#pragma once

#include "conv/epilogue.h"

namespace caffe_compat::CAFFE_COMPAT_SIMD {

// The epilogue for one vector of outputs from `output` on, of many pixels.  Only `count` lanes are
// read and of use where not `whole`.
template <bool whole>
struct Finish {
  Floats bias, slopes, floor, ceiling;
  const float* add;
  int64_t add_stride;
  bool leaks;
  int count;

  CAFFE_COMPAT_SIMD_INLINE Finish(const Epilogue& e, int64_t output, int lanes) {
    count = lanes;
    bias = e.bias ? load(e.bias + output) : Floats::zero();
    leaks = e.slopes != nullptr;
    slopes = leaks ? load(e.slopes + output) : Floats::zero();
    floor = Floats::all(e.floor);
    ceiling = Floats::all(e.ceiling);
    add = e.add ? e.add + output : nullptr;
    add_stride = e.add_stride;
  }

  // `pixel`: which one of `add`.
  CAFFE_COMPAT_SIMD_INLINE Floats operator()(Floats value, int64_t pixel) const {
    value = value + bias;
    if (add) value = value + load(add + pixel * add_stride);
    if (leaks) {
      const Floats zero = Floats::zero();
      value = multiply_add(min(zero, value), slopes, max(zero, value));
    }
    // NaN comes through: max and min return their second operand where one of them is NaN.
    return min(ceiling, max(floor, value));
  }

 private:
  CAFFE_COMPAT_SIMD_INLINE Floats load(const float* from) const {
    return whole ? Floats::load(from) : Floats::load(from, count);
  }
};

template <bool whole>
CAFFE_COMPAT_SIMD_INLINE void store_some(Floats value, float* to, int count) {
  if constexpr (whole) {
    value.store(to);
  } else {
    value.store(to, count);
  }
}

}  // namespace caffe_compat::CAFFE_COMPAT_SIMD
