// Grouped convolution on CUDA for channels_last (NHWC) tensors: tensor cores on every number format
// but float64, one launch over all groups.
//
// Tensors are dense, pixel by pixel, and start at multiples of 16 bytes; each group's channels, in
// and out, are whole chunks of 16 bytes (nhwc_fits).  Weights come contiguous or channels_last and
// are repacked in each call into the order that the product wants, which costs little beside it.
//
//   output            repack_weights, gather_gemm (gather_gemm.cuh)
//   input gradient    the same, once for each row and column of a stride (gather_sizes.h)
//   weight gradient   weight_grad_gemm, then reduce_split_k_nhwc (weight_grad.cuh)
//
// Each reads and writes every tensor once from memory, but for what blocks of neighbouring tiles
// read twice and the weight gradient's partial sums, once out and once in.  What bounds them
// otherwise is worked out in warp_accumulators.cuh.
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
    const int64_t reach_h = reach(s.height, s.pad_h, s.dilation_h, s.kernel_h);
    const int64_t reach_w = reach(s.width, s.pad_w, s.dilation_w, s.kernel_w);
    // Windows may begin before the first image and end behind the last.
    const int64_t around = 2 * reach_h * std::max(s.width, s.out_width) + 2 * reach_w;
    return s.group_channels() % per_chunk == 0 && s.group_outputs() % per_chunk == 0 &&
           reach_h < (1 << 29) && reach_w < (1 << 29) &&
           s.batch * std::max(s.pixels(), s.out_pixels()) <= most - around &&
           32 * std::max(s.channels, s.outputs) * static_cast<int64_t>(sizeof(T)) <= most &&
           std::max(s.kernel_h, s.kernel_w) <= nhwc_cuda::kMostTaps &&
           s.outputs * s.depth() <= most && s.groups <= kMostGridYZ &&
           std::max(s.group_channels(), s.group_outputs()) <= kMostGridYZ * 64;
  }
}

namespace nhwc_cuda {

// Calls what(NumberFormat) with the format in which these numbers are multiplied.
template <typename T, typename What>
auto with_format(ConvMath math, const What& what) {
  if constexpr (std::is_same_v<T, float>) {
    if (math != ConvMath::kTf32) return what(NumberFormat<T, true>());
  }
  return what(NumberFormat<T>());
}

template <typename T>
WeightSource<T> weight_source(const T* weight, bool channels_last, T* repacked, const ConvSizes& s,
                              bool rotated) {
  return {.weight = weight,
          .strides = channels_last ? WeightStrides::channels_last(s) : WeightStrides::contiguous(s),
          .repacked = repacked,
          .group_outputs = static_cast<uint32_t>(s.group_outputs()),
          .group_channels = static_cast<uint32_t>(s.group_channels()),
          .kernel_w = static_cast<uint32_t>(s.kernel_w),
          .rotated = rotated};
}

// Calls what(GatherSizes) with each product that makes the input gradient.
template <typename What>
void for_input_grads(const ConvSizes& s, const What& what) {
  for (int64_t h = 0; h < std::min(s.stride_h, s.height); ++h) {
    for (int64_t w = 0; w < std::min(s.stride_w, s.width); ++w) {
      what(GatherSizes::input_grad(s, h, w));
    }
  }
}

}  // namespace nhwc_cuda

// Elements of the workspace `repacked` of the two functions below.
template <typename T>
int64_t conv_nhwc_repacked_count(const ConvSizes& s, ConvMath math, bool input_grad) {
  using namespace nhwc_cuda;
  return with_format<T>(math, [&]<typename Format>(Format) {
    if (!input_grad) return repacked_count<Format>(GatherSizes::output(s));
    int64_t most = 0;
    for_input_grads(
        s, [&](const GatherSizes& g) { most = std::max(most, repacked_count<Format>(g)); });
    return most;
  });
}

// y = conv(x, weight) + bias, cut at zero with `relu`.
template <typename T>
void conv_nhwc_forward_cuda(const T* x, const T* weight, bool weight_channels_last, T* repacked,
                            const T* bias, T* y, const ConvSizes& s, bool relu, ConvMath math,
                            cudaStream_t stream) {
  using namespace nhwc_cuda;
  const auto source = weight_source(weight, weight_channels_last, repacked, s, false);
  with_format<T>(math, [&]<typename Format>(Format) {
    launch_fitting_gather<Format>(GatherSizes::output(s), x, source, bias, y, relu, stream);
  });
}

template <typename T>
void conv_nhwc_input_grad_cuda(const T* dy, const T* weight, bool weight_channels_last, T* repacked,
                               T* dx, const ConvSizes& s, ConvMath math, cudaStream_t stream) {
  using namespace nhwc_cuda;
  const auto source = weight_source(weight, weight_channels_last, repacked, s, true);
  const T* const no_bias = nullptr;
  with_format<T>(math, [&]<typename Format>(Format) {
    for_input_grads(s, [&](const GatherSizes& g) {
      launch_fitting_gather<Format>(g, dy, source, no_bias, dx, false, stream);
    });
  });
}

// How many slices of the weight's size `partial` needs, in float32.
template <typename T>
int64_t conv_nhwc_weight_grad_splits(const ConvSizes& s, ConvMath math) {
  using namespace nhwc_cuda;
  return with_format<T>(math, [&]<typename Format>(Format) { return split_k<Format>(s).count; });
}

// dw is contiguous (outputs, channels of a group, kernel_h, kernel_w).
template <typename T>
void conv_nhwc_weight_grad_cuda(const T* dy, const T* x, T* dw, float* partial, const ConvSizes& s,
                                ConvMath math, cudaStream_t stream) {
  using namespace nhwc_cuda;
  const int64_t count = s.outputs * s.depth();
  if (count == 0) return;
  const SplitK splits =
      with_format<T>(math, [&]<typename Format>(Format) { return split_k<Format>(s); });
  const WeightGradArguments<T> p(dy, x, partial, s, splits);
  with_format<T>(math, [&]<typename Format>(Format) {
    launch_fitting_weight_grad<Format>(p, weight_grad_rows<Format>(s), splits.count, stream);
  });
  auto kernel = reduce_split_k_nhwc<T>;
  CAFFE_COMPAT_LAUNCH(kernel, blocks_for(count), kThreads, stream, partial, dw, count, splits.count,
                      static_cast<uint32_t>(s.group_channels()), static_cast<uint32_t>(s.taps()),
                      conv_cuda::Divider(s.group_channels()), conv_cuda::Divider(s.taps()));
}

}  // namespace caffe_compat
