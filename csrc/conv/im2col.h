// Caffe's way of making a convolution a matrix product: each kernel tap of each channel becomes a
// row of output pixels.
#pragma once

#include <algorithm>
#include <cstring>

#include "conv/conv.h"

namespace caffe_compat {

// Along one axis: the output positions i in [first, last) whose tap lies inside the input,
// 0 <= i * stride + offset < size, with offset = tap * dilation - pad.
struct TapRange {
  int64_t first, last;

  TapRange(int64_t offset, int64_t size, int64_t stride, int64_t out_size) {
    const auto ceil_div = [](int64_t a, int64_t b) { return a <= 0 ? 0 : (a + b - 1) / b; };
    first = std::min(ceil_div(-offset, stride), out_size);
    last = std::max(first, std::min(ceil_div(size - offset, stride), out_size));
  }
};

// One row of the column matrix: channel plane `image` (height, width) seen through tap (kh, kw).
template <typename T>
void im2col_row(const T* image, T* row, const ConvSizes& s, int64_t kh, int64_t kw) {
  const int64_t top = kh * s.dilation_h - s.pad_h, left = kw * s.dilation_w - s.pad_w;
  const TapRange ys(top, s.height, s.stride_h, s.out_height);
  const TapRange xs(left, s.width, s.stride_w, s.out_width);
  std::fill(row, row + ys.first * s.out_width, T(0));
  for (int64_t y = ys.first; y < ys.last; ++y) {
    const T* from = image + (y * s.stride_h + top) * s.width + left;
    T* to = row + y * s.out_width;
    std::fill(to, to + xs.first, T(0));
    if (s.stride_w == 1 && xs.first < xs.last) {
      std::memcpy(to + xs.first, from + xs.first, (xs.last - xs.first) * sizeof(T));
    } else {
      for (int64_t x = xs.first; x < xs.last; ++x) to[x] = from[x * s.stride_w];
    }
    std::fill(to + xs.last, to + s.out_width, T(0));
  }
  std::fill(row + ys.last * s.out_width, row + s.out_pixels(), T(0));
}

// Adds a row of the column matrix back to the plane that it was read from.
template <typename T>
void col2im_row(const T* row, T* image, const ConvSizes& s, int64_t kh, int64_t kw) {
  const int64_t top = kh * s.dilation_h - s.pad_h, left = kw * s.dilation_w - s.pad_w;
  const TapRange ys(top, s.height, s.stride_h, s.out_height);
  const TapRange xs(left, s.width, s.stride_w, s.out_width);
  for (int64_t y = ys.first; y < ys.last; ++y) {
    T* to = image + (y * s.stride_h + top) * s.width + left;
    const T* from = row + y * s.out_width;
    for (int64_t x = xs.first; x < xs.last; ++x) to[x * s.stride_w] += from[x];
  }
}

}  // namespace caffe_compat
