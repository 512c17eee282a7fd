// Rows of numbers, vector by vector.  Include after common/simd.h.
#pragma once

#include <cstdint>
#include <type_traits>

namespace caffe_compat::CAFFE_COMPAT_SIMD {

constexpr int kLanes = Floats::kLanes;

// Calls body(first channel, channels here, whether that is a whole vector as a constant).
template <typename Body>
CAFFE_COMPAT_SIMD_INLINE void for_each_vector(int64_t channels, const Body& body) {
  int64_t c = 0;
  for (; c + kLanes <= channels; c += kLanes) body(c, kLanes, std::true_type());
  if (c < channels) body(c, static_cast<int>(channels - c), std::false_type());
}

template <bool whole>
CAFFE_COMPAT_SIMD_INLINE Floats load_some(const float* from, int count) {
  return whole ? Floats::load(from) : Floats::load(from, count);
}

}  // namespace caffe_compat::CAFFE_COMPAT_SIMD
