// What a convolution or inner product does to its sums before it writes them.
#pragma once

#include <cstdint>
#include <limits>

namespace caffe_compat {

//   v   = sum + bias[o] + add[pixel][o]
//   v   = v < 0 ? slopes[o] * v : v            where there are slopes
//   out = min(max(v, floor), ceiling)          NaN stays NaN
struct Epilogue {
  const float* bias = nullptr;    // one for each output; may be null
  const float* add = nullptr;     // numbers to add, pixel for pixel; may be null
  int64_t add_stride = 0;         // numbers from one pixel of `add` to the next
  const float* slopes = nullptr;  // one for each output; may be null
  float floor = -std::numeric_limits<float>::infinity();
  float ceiling = std::numeric_limits<float>::infinity();
};

}  // namespace caffe_compat
