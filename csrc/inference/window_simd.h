// Which taps of a window lie inside the image.  Include after common/simd.h.
#pragma once

#include <algorithm>
#include <cstdint>

#include "common/vectors_simd.h"
#include "inference/inference.h"

namespace caffe_compat::CAFFE_COMPAT_SIMD {
namespace inference {

// The taps inside the input of the window at `i`.
struct Taps {
  int64_t first, last;
};
inline Taps taps_inside(int64_t start, int64_t kernel, int64_t dilation, int64_t size) {
  const int64_t first = start >= 0 ? 0 : (-start + dilation - 1) / dilation;
  const int64_t last = start >= size ? 0 : (size - start + dilation - 1) / dilation;
  return {std::min(first, kernel), std::min(kernel, last)};
}

// Output pixels of a row whose windows lie inside the input.
inline Taps inner_columns(const Image& in, const Image& out, const Window& w) {
  const int64_t extent = (w.kernel_w - 1) * w.dilation_w + 1;
  const int64_t first = (w.pad_w + w.stride_w - 1) / w.stride_w;
  const int64_t room = in.width + w.pad_w - extent;
  const int64_t last = room < 0 ? 0 : std::min(out.width, room / w.stride_w + 1);
  return {std::min(first, last), last};
}

}  // namespace inference
}  // namespace caffe_compat::CAFFE_COMPAT_SIMD
