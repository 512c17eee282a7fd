// Max pooling with Caffe's windows, alone or in a chain with ReLU before it and LRN across channels
// behind it.
//
// A window of kernel_h x kernel_w taps (numbered row by row) starts at (i * stride_h - pad_h,
// j * stride_w - pad_w) and is clipped to the input.  The first of equal maxima wins.  `tap` keeps
// the number of the winner's tap, one byte for each output, which is all that the backward pass
// needs; kNoTap where no gradient flows: behind a ReLU that is 0, or a window without input.
#pragma once

#include <cstdint>

namespace caffe_compat {

struct PoolSizes {
  int64_t batch, channels, height, width;  // input
  int64_t out_height, out_width;
  int64_t kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w;
  bool channels_last;  // layout of input, output and tap alike

  constexpr int64_t taps() const { return kernel_h * kernel_w; }
  constexpr int64_t pixels() const { return height * width; }
  constexpr int64_t out_pixels() const { return out_height * out_width; }
};

constexpr uint8_t kNoTap = 255;
constexpr int64_t kMostTaps = 255;  // their numbers, 0 to 254, and kNoTap fit into a byte

}  // namespace caffe_compat
