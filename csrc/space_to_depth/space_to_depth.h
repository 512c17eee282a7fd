// Blocks of pixels made into channels, so that a convolution with a stride becomes one without.
//
//   out[n, (c * block + dy) * block + dx, y, x] =
//       input[n, c, y * block + dy - pad_h, x * block + dx - pad_w]
//
// Outside the input it is 0, and so are the channels added until their number is a multiple of
// kDepthMultiple (whole 16-byte vectors for every dtype).  `out` is channels_last.
#pragma once

#include <cstdint>

namespace caffe_compat {

constexpr int64_t kDepthMultiple = 8;
constexpr int64_t kMostDepth = 1024;  // channels of the output: a pixel has to fit shared memory

struct SpaceToDepthSizes {
  int64_t batch, channels, height, width;  // input
  int64_t stride_n, stride_c, stride_h, stride_w;
  int64_t out_height, out_width, out_channels;
  int64_t block, pad_h, pad_w;

  constexpr int64_t filled_channels() const { return channels * block * block; }
};

}  // namespace caffe_compat
