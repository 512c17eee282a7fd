// Brings weights into the order that the channels_last products read: rows of (tap, channel), or
// for the input gradient (tap, output).
#pragma once

#include "common/cuda_utils.cuh"
#include "conv/conv.h"
#include "conv/divider.cuh"

namespace caffe_compat {
namespace nhwc_cuda {

// Distances between elements of a weight (outputs, channels of a group, taps) in memory.
struct WeightStrides {
  int64_t output, channel, tap;

  static WeightStrides contiguous(const ConvSizes& s) { return {s.depth(), s.taps(), 1}; }
  static WeightStrides channels_last(const ConvSizes& s) {
    return {s.depth(), 1, s.group_channels()};
  }
};

// For the output: to[o][tap][c].  For the input gradient, `rotated` by 180 degrees:
// to[group, c][taps - 1 - tap][o in group].
template <typename T>
__global__ void __launch_bounds__(kThreads)
    repack_weights(const T* __restrict__ from, T* __restrict__ to, WeightStrides strides,
                   uint32_t count, uint32_t group_outputs, uint32_t group_channels, uint32_t taps,
                   conv_cuda::Divider by_inner, conv_cuda::Divider by_taps,
                   conv_cuda::Divider by_group_channels, bool rotated) {
  const int64_t at = global_thread();
  if (at >= count) return;
  uint32_t inner, tap;
  const uint32_t row = by_taps.divmod(by_inner.divmod(static_cast<uint32_t>(at), inner), tap);
  int64_t output = row, channel = inner;
  if (rotated) {
    uint32_t row_channel;
    output =
        static_cast<int64_t>(by_group_channels.divmod(row, row_channel)) * group_outputs + inner;
    channel = row_channel;
    tap = taps - 1 - tap;
  }
  to[at] = from[output * strides.output + channel * strides.channel + tap * strides.tap];
}

template <typename T>
void repack(const T* from, T* to, const WeightStrides& strides, const ConvSizes& s, bool rotated,
            cudaStream_t stream) {
  const int64_t count = s.outputs * s.depth();
  if (count == 0) return;
  auto kernel = repack_weights<T>;
  CAFFE_COMPAT_LAUNCH(kernel, blocks_for(count), kThreads, stream, from, to, strides,
                      static_cast<uint32_t>(count), static_cast<uint32_t>(s.group_outputs()),
                      static_cast<uint32_t>(s.group_channels()), static_cast<uint32_t>(s.taps()),
                      conv_cuda::Divider(rotated ? s.group_outputs() : s.group_channels()),
                      conv_cuda::Divider(s.taps()), conv_cuda::Divider(s.group_channels()),
                      rotated);
}

}  // namespace nhwc_cuda
}  // namespace caffe_compat
