// Grouped convolution on CUDA for channels_last (NHWC) tensors: tensor cores on every number format
// but float64, one launch over all groups.
//
// Tensors are dense, pixel by pixel, and start at multiples of 16 bytes; each group's channels, in
// and out, are whole chunks of 16 bytes (nhwc_fits).  Weights come contiguous or channels_last and
// are repacked in each call where the product wants another order, which costs little beside it.
//
//   output, input gradient    gather_gemm (gather_gemm.cuh), behind repack_weights
//   weight gradient           weight_grad_gemm, then reduce_split_k_nhwc (weight_grad.cuh)
//
// Each reads and writes every tensor once from memory, but for what blocks of neighbouring tiles
// read twice and the weight gradient's partial sums, once out and once in.
#pragma once

#include <limits>

#include "conv/nhwc/gather_gemm.cuh"
#include "conv/nhwc/repack_weights.cuh"
#include "conv/nhwc/weight_grad.cuh"

namespace caffe_compat {

// Whether the kernels take these sizes: whole chunks, and what they count in 32 bits fits.
template <typename T>
bool nhwc_fits(const ConvSizes& s) {
  if constexpr (std::is_same_v<T, double>) {
    return false;
  } else {
    constexpr int64_t per_chunk = nhwc_cuda::NumberFormat<T>::kPerChunk;
    constexpr int64_t most = std::numeric_limits<int32_t>::max() - 1024;  // room for the last tile
    const auto reach = [](int64_t size, int64_t pad, int64_t dilation, int64_t kernel) {
      return size + 2 * pad + dilation * kernel;
    };
    return s.group_channels() % per_chunk == 0 && s.group_outputs() % per_chunk == 0 &&
           s.batch * std::max(s.pixels(), s.out_pixels()) <= most &&
           reach(s.height, s.pad_h, s.dilation_h, s.kernel_h) < (1 << 29) &&
           reach(s.width, s.pad_w, s.dilation_w, s.kernel_w) < (1 << 29) &&
           s.outputs * s.depth() <= most && s.groups <= kMostGridYZ &&
           std::max(s.group_channels(), s.group_outputs()) <= kMostGridYZ * 64;
  }
}

namespace nhwc_cuda {

template <typename T>
void launch_gather_for(const GatherArguments<T>& p, int64_t groups, ConvMath math,
                       cudaStream_t stream) {
  if constexpr (std::is_same_v<T, float>) {
    if (math != ConvMath::kTf32)
      return launch_fitting_gather<NumberFormat<T, true>>(p, groups, stream);
  }
  launch_fitting_gather<NumberFormat<T>>(p, groups, stream);
}

}  // namespace nhwc_cuda

// y = conv(x, weight) + bias, cut at zero with `relu`.  `repacked`: workspace of the weight's size,
// or null when the weight is channels_last, which is the order that the product wants.
template <typename T>
void conv_nhwc_forward_cuda(const T* x, const T* weight, T* repacked, const T* bias, T* y,
                            const ConvSizes& s, bool relu, ConvMath math, cudaStream_t stream) {
  using namespace nhwc_cuda;
  if (s.batch == 0) return;
  if (repacked != nullptr) {
    repack(weight, repacked, WeightStrides::contiguous(s), s, false, stream);
    weight = repacked;
  }
  launch_gather_for<T>(
      {.x = x, .weight = weight, .bias = bias, .y = y, .relu = relu, .g = GatherSizes::output(s)},
      s.groups, math, stream);
}

// `repacked`: workspace of the weight's size.
template <typename T>
void conv_nhwc_input_grad_cuda(const T* dy, const T* weight, bool weight_channels_last, T* repacked,
                               T* dx, const ConvSizes& s, ConvMath math, cudaStream_t stream) {
  using namespace nhwc_cuda;
  if (s.batch == 0) return;
  const auto strides =
      weight_channels_last ? WeightStrides::channels_last(s) : WeightStrides::contiguous(s);
  repack(weight, repacked, strides, s, true, stream);
  launch_gather_for<T>({.x = dy,
                        .weight = repacked,
                        .bias = nullptr,
                        .y = dx,
                        .relu = false,
                        .g = GatherSizes::input_grad(s)},
                       s.groups, math, stream);
}

// How many slices of the weight's size `partial` needs, in float32.
inline int64_t conv_nhwc_weight_grad_splits(const ConvSizes& s, ConvMath math) {
  return nhwc_cuda::SplitK(s, math != ConvMath::kTf32).count;
}

// dw is contiguous (outputs, channels of a group, kernel_h, kernel_w).
template <typename T>
void conv_nhwc_weight_grad_cuda(const T* dy, const T* x, T* dw, float* partial, const ConvSizes& s,
                                ConvMath math, cudaStream_t stream) {
  using namespace nhwc_cuda;
  const int64_t count = s.outputs * s.depth();
  if (count == 0) return;
  const bool split_tf32 = math != ConvMath::kTf32;
  const SplitK split_k(s, split_tf32);
  const WeightGradArguments<T> p(dy, x, partial, s, split_k);
  bool launched = false;
  if constexpr (std::is_same_v<T, float>) {
    if (split_tf32) {
      launch_weight_grad<NumberFormat<T, true>, 64>(p, split_k.count, stream);
      launched = true;
    }
  }
  if (!launched && weight_grad_rows(s, split_tf32) == 128) {
    launch_weight_grad<NumberFormat<T>, 128>(p, split_k.count, stream);
  } else if (!launched) {
    launch_weight_grad<NumberFormat<T>, 64>(p, split_k.count, stream);
  }
  auto kernel = reduce_split_k_nhwc<T>;
  CAFFE_COMPAT_LAUNCH(kernel, blocks_for(count), kThreads, stream, partial, dw, count,
                      split_k.count, static_cast<uint32_t>(s.group_channels()),
                      static_cast<uint32_t>(s.taps()), conv_cuda::Divider(s.group_channels()),
                      conv_cuda::Divider(s.taps()));
}

}  // namespace caffe_compat
