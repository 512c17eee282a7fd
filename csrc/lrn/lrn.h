// Local response normalisation: y = x * scale^-beta, scale = k + coefficient * (sum of x^2 over the
// window).
//
// The window is `size` channels around one (across channels; coefficient = alpha / size), or size x
// size pixels around one of the same channel (within channel; coefficient = alpha / size^2, k = 1).
// Outside counts as zero.  `reach` is how far a window goes to each side of its middle.
#pragma once

#include <cmath>
#include <cstdint>

#include "common/host_device.h"

namespace caffe_compat {

struct LrnParams {
  int64_t size;
  double alpha, beta, k;
  bool within_channel;

  int64_t reach() const { return (size - 1) / 2; }
  double coefficient() const { return alpha / (within_channel ? size * size : size); }
  double offset() const { return within_channel ? 1.0 : k; }
};

// The shape of a dense input, and which of its two layouts it has.
struct LrnShape {
  int64_t batch, channels, height, width;
  bool channels_last;
};

// The exponents that need no pow, and all others.
enum class LrnPower { kHalf, kThreeQuarters, kOne, kAny };

inline LrnPower lrn_power(double beta) {
  if (beta == 0.5) return LrnPower::kHalf;
  if (beta == 0.75) return LrnPower::kThreeQuarters;
  return beta == 1.0 ? LrnPower::kOne : LrnPower::kAny;
}

// scale^-beta, given inverse = 1 / scale.
template <LrnPower power, typename T>
CAFFE_COMPAT_HOST_DEVICE T lrn_raise(T inverse, T beta) {
  if constexpr (power == LrnPower::kHalf) return std::sqrt(inverse);
  if constexpr (power == LrnPower::kThreeQuarters) {
    const T root = std::sqrt(inverse);
    return root * std::sqrt(root);
  }
  if constexpr (power == LrnPower::kOne) return inverse;
  return std::pow(inverse, beta);
}

}  // namespace caffe_compat
