// Grouped convolution on CUDA for channels_last (NHWC) tensors: tensor cores on every number format
// but float64, one launch over all groups.
//
// Tensors are dense, pixel by pixel, and start at multiples of 16 bytes; each group's channels, in
// and out, are whole chunks of 16 bytes (nhwc_fits).  Weights come in any of two orders and are
// laid out anew for each call, which costs little beside the product.
#pragma once

#include <limits>

#include "conv/nhwc/gather_product.cuh"
#include "conv/nhwc/relay_weights.cuh"
#include "conv/nhwc/weight_grad.cuh"

namespace caffe_compat {

// Whether the kernels take these sizes: whole chunks, and what they count in 32 bits fits.
template <typename T>
bool nhwc_fits(const ConvSizes& s) {
  if constexpr (std::is_same_v<T, double>) {
    return false;
  } else {
    constexpr int64_t per_chunk = nhwc_cuda::Format<T>::kPerChunk;
    constexpr int64_t most = std::numeric_limits<int32_t>::max() - 1024;  // a tile beyond the last
    const auto reach = [](int64_t size, int64_t pad, int64_t dilation, int64_t kernel) {
      return size + 2 * pad + dilation * kernel;
    };
    return s.group_channels() % per_chunk == 0 && s.group_outputs() % per_chunk == 0 &&
           s.batch * std::max(s.pixels(), s.out_pixels()) <= most &&
           reach(s.height, s.pad_h, s.dilation_h, s.kernel_h) < (1 << 29) &&
           reach(s.width, s.pad_w, s.dilation_w, s.kernel_w) < (1 << 29) &&
           s.outputs * s.depth() <= most && s.groups <= 65535 &&
           std::max(s.group_channels(), s.group_outputs()) <= 65535 * 64;
  }
}

namespace nhwc_cuda {

template <typename T>
void gather_for(const GatherArguments<T>& p, int64_t groups, ConvMath math, cudaStream_t stream) {
  if constexpr (std::is_same_v<T, float>) {
    if (math != ConvMath::kTf32) return gather<Format<T, true>>(p, groups, stream);
  }
  gather<Format<T>>(p, groups, stream);
}

}  // namespace nhwc_cuda

// y = conv(x, weight) + bias, cut at zero with `relu`.  `relaid`: workspace of the weight's size,
// or null when the weight is channels_last, which is the order that the product wants.
template <typename T>
void conv_nhwc_forward_cuda(const T* x, const T* weight, T* relaid, const T* bias, T* y,
                            const ConvSizes& s, bool relu, ConvMath math, cudaStream_t stream) {
  using namespace nhwc_cuda;
  if (s.batch == 0) return;
  if (relaid != nullptr) {
    relay(weight, relaid, WeightStrides::contiguous(s), s, false, stream);
    weight = relaid;
  }
  gather_for<T>({x, weight, bias, y, relu, Gather::output(s)}, s.groups, math, stream);
}

// `relaid`: workspace of the weight's size.
template <typename T>
void conv_nhwc_input_grad_cuda(const T* dy, const T* weight, bool weight_channels_last, T* relaid,
                               T* dx, const ConvSizes& s, ConvMath math, cudaStream_t stream) {
  using namespace nhwc_cuda;
  if (s.batch == 0) return;
  const auto strides =
      weight_channels_last ? WeightStrides::channels_last(s) : WeightStrides::contiguous(s);
  relay(weight, relaid, strides, s, true, stream);
  gather_for<T>({dy, relaid, nullptr, dx, false, Gather::input_grad(s)}, s.groups, math, stream);
}

// How many slices of the weight's size `partial` needs, in float32.
inline int64_t conv_nhwc_weight_grad_parts(const ConvSizes& s, ConvMath math) {
  return nhwc_cuda::Parts(s, math != ConvMath::kTf32).count;
}

// dw is contiguous (outputs, channels of a group, kernel_h, kernel_w).
template <typename T>
void conv_nhwc_weight_grad_cuda(const T* dy, const T* x, T* dw, float* partial, const ConvSizes& s,
                                ConvMath math, cudaStream_t stream) {
  using namespace nhwc_cuda;
  const int64_t count = s.outputs * s.depth();
  if (count == 0) return;
  const bool split = math != ConvMath::kTf32;
  const Parts parts(s, split);
  const WeightGradArguments<T> p(dy, x, partial, s, parts);
  bool done = false;
  if constexpr (std::is_same_v<T, float>) {
    if (split) launch_weight_grad<Format<T, true>, 64>(p, parts.count, stream), done = true;
  }
  if (!done && weight_grad_rows(s, split) == 128) {
    launch_weight_grad<Format<T>, 128>(p, parts.count, stream);
  } else if (!done) {
    launch_weight_grad<Format<T>, 64>(p, parts.count, stream);
  }
  auto kernel = add_weight_grad_parts<T>;
  CAFFE_COMPAT_LAUNCH(kernel, blocks_for(count), kThreads, stream, partial, dw, count, parts.count,
                      static_cast<uint32_t>(s.group_channels()), static_cast<uint32_t>(s.taps()),
                      conv_cuda::Divider(s.group_channels()), conv_cuda::Divider(s.taps()));
}

}  // namespace caffe_compat
