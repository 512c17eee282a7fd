// What the output and the input gradient of a channels_last convolution have in common: both are a
// dense convolution of "x" to "y", the input gradient from dy (here x) to dx (here y).
//
// With a stride s the input gradient falls into s * s such convolutions, each for the pixels of dx
// that lie s apart: the others of the window's taps meet zeros there.  In one dimension, stride 2,
// kernel 3, padding 1:
//
//   dx[0] dx[2] dx[4] ...    each takes tap 1: dy[i]
//   dx[1] dx[3] dx[5] ...    each takes taps 2 and 0: dy[i], dy[i + 1]
#pragma once

#include <numeric>

#include "conv/conv.h"
#include "conv/divider.cuh"

namespace caffe_compat {
namespace nhwc_cuda {

// Rows, or columns.
struct GatherAxis {
  int32_t size;                     // of x
  int32_t count;                    // pixels of y that are computed
  int32_t y_size, y_first, y_step;  // where they lie in y
  int32_t step, pad, dilation;      // the window over x
  int32_t taps;
  int32_t first_tap, tap_step;  // which taps of the convolution they are

  static GatherAxis output(int64_t size, int64_t out_size, int64_t kernel, int64_t stride,
                           int64_t pad, int64_t dilation) {
    return {.size = static_cast<int32_t>(size),
            .count = static_cast<int32_t>(out_size),
            .y_size = static_cast<int32_t>(out_size),
            .y_first = 0,
            .y_step = 1,
            .step = static_cast<int32_t>(stride),
            .pad = static_cast<int32_t>(pad),
            .dilation = static_cast<int32_t>(dilation),
            .taps = static_cast<int32_t>(kernel),
            .first_tap = 0,
            .tap_step = 1};
  }

  // dx[first + stride i] = sum over taps k of dy[(first + stride i + pad - dilation k) / stride],
  // where that is whole: for taps that lie stride / gcd(stride, dilation) apart.
  static GatherAxis input_grad(int64_t size, int64_t out_size, int64_t kernel, int64_t stride,
                               int64_t pad, int64_t dilation, int64_t first) {
    const int64_t common = std::gcd(stride, dilation), apart = stride / common;
    int64_t lowest = 0;
    while (lowest < apart && (first + pad - dilation * lowest) % stride != 0) ++lowest;
    const int64_t taps = lowest < apart && lowest < kernel ? (kernel - 1 - lowest) / apart + 1 : 0;
    const int64_t highest = lowest + (taps - 1) * apart;  // of the lowest pixel in dy
    return {.size = static_cast<int32_t>(out_size),
            .count = static_cast<int32_t>((size - first + stride - 1) / stride),
            .y_size = static_cast<int32_t>(size),
            .y_first = static_cast<int32_t>(first),
            .y_step = static_cast<int32_t>(stride),
            .step = 1,
            .pad = static_cast<int32_t>(taps > 0 ? (dilation * highest - pad - first) / stride : 0),
            .dilation = static_cast<int32_t>(dilation / common),
            .taps = static_cast<int32_t>(taps),
            .first_tap = static_cast<int32_t>(highest),
            .tap_step = static_cast<int32_t>(-apart)};
  }
};

// Pixels are counted in 32 bits, elements in 64 (nhwc_fits).
struct GatherSizes {
  GatherAxis h, w;
  int64_t channels, outputs;                      // of x and y, all groups
  int32_t groups, group_channels, group_outputs;  // of x and y
  uint32_t pixels;                                // of y that are computed
  conv_cuda::Divider by_pixels, by_width;         // of an image, of those

  GatherSizes(const GatherAxis& h, const GatherAxis& w, int64_t batch, int64_t channels,
              int64_t outputs, int64_t groups)
      : h(h),
        w(w),
        channels(channels),
        outputs(outputs),
        groups(static_cast<int32_t>(groups)),
        group_channels(static_cast<int32_t>(channels / groups)),
        group_outputs(static_cast<int32_t>(outputs / groups)),
        pixels(static_cast<uint32_t>(batch * h.count * w.count)),
        by_pixels(static_cast<int64_t>(h.count) * w.count),
        by_width(w.count) {}

  int32_t taps() const { return h.taps * w.taps; }

  static GatherSizes output(const ConvSizes& s) {
    return {
        GatherAxis::output(s.height, s.out_height, s.kernel_h, s.stride_h, s.pad_h, s.dilation_h),
        GatherAxis::output(s.width, s.out_width, s.kernel_w, s.stride_w, s.pad_w, s.dilation_w),
        s.batch,
        s.channels,
        s.outputs,
        s.groups};
  }
  // Of the pixels (first_h + stride_h i, first_w + stride_w j).
  static GatherSizes input_grad(const ConvSizes& s, int64_t first_h, int64_t first_w) {
    return {GatherAxis::input_grad(s.height, s.out_height, s.kernel_h, s.stride_h, s.pad_h,
                                   s.dilation_h, first_h),
            GatherAxis::input_grad(s.width, s.out_width, s.kernel_w, s.stride_w, s.pad_w,
                                   s.dilation_w, first_w),
            s.batch,
            s.outputs,
            s.channels,
            s.groups};
  }
};

// The order in which the product goes through its depth: in chunks of 16 bytes of the channels, and
// `width` chunks of each tap before the next tap, so that the pixels under a window's taps are read
// in turn while the first-level cache has them.  width divides a group's chunks, and 4, the chunks
// of a step.
struct DepthOrder {
  int32_t chunks, taps, width;  // of a group's channels; of the window

  DepthOrder(const GatherSizes& g, int per_chunk)
      : chunks(g.group_channels / per_chunk),
        taps(g.taps()),
        width(chunks % 4 == 0   ? 4
              : chunks % 2 == 0 ? 2
                                : 1) {}

  int64_t steps() const { return (static_cast<int64_t>(chunks) * taps + 3) / 4; }
};

}  // namespace nhwc_cuda
}  // namespace caffe_compat
