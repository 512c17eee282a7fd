// Grouped 2-D convolution (cross-correlation, as everywhere in deep learning): the sizes that all
// its kernels share.
//
//   y[n, o, i, j] = bias[o] + sum over c, kh, kw of
//       x[n, first channel of o's group + c, i * stride_h - pad_h + kh * dilation_h,
//                                            j * stride_w - pad_w + kw * dilation_w] * w[o, c, kh,
//                                            kw]
//
// A "tap" is one (kh, kw); the "depth" is the length of that sum.
#pragma once

#include <array>
#include <cstdint>

namespace caffe_compat {

// How CUDA makes float32 products: plain FMA, TF32 tensor cores, or three TF32 products of split
// numbers, which keeps float32's accuracy.  float64 is always kFma, 16-bit types kTf32.
enum class ConvMath { kFma, kTf32, kSplitTf32 };

// How the kernel moves over the input; the first of two numbers is for rows, the second for
// columns.
struct ConvWindow {
  std::array<int64_t, 2> stride, padding, dilation;
  int64_t groups;
};

// All that a kernel has to know, made by conv_sizes().
struct ConvSizes {
  int64_t batch, channels, height, width;  // input, dense (N, C, H, W)
  int64_t outputs, out_height, out_width;  // output, dense (N, outputs, out_height, out_width)
  int64_t kernel_h, kernel_w;  // weight, dense (outputs, channels / groups, kernel_h, kernel_w)
  int64_t stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w;
  int64_t groups;

  constexpr int64_t pixels() const { return height * width; }
  constexpr int64_t out_pixels() const { return out_height * out_width; }
  constexpr int64_t group_channels() const { return channels / groups; }
  constexpr int64_t group_outputs() const { return outputs / groups; }
  constexpr int64_t taps() const { return kernel_h * kernel_w; }
  // Products that make one output: weights of an output channel.
  constexpr int64_t depth() const { return group_channels() * taps(); }
};

}  // namespace caffe_compat
