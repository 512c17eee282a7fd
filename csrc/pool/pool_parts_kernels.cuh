// Max pooling between tensors whose channels are in parts: the NHWC kernels of pooling, alone or
// with LRN, with another bias and another place for each channel.
#pragma once

#include <algorithm>

#include "parts/partial_sums.cuh"
#include "pool/pool_kernels.cuh"

namespace caffe_compat {
namespace pool_cuda {

template <typename T, int reach>
void launch_parts_forward(const TensorsInParts<T>& tensors, T* pooled, uint8_t* tap,
                          const PoolSizes& s, bool relu,
                          const lrn_cuda::LrnConstants<compute_t<T>>& c, cudaStream_t stream) {
  constexpr int most = kVectorLength<T>;
  const bool vectorized = tensors.input.fits(most) && tensors.output.fits(most) &&
                          tensors.bias.fits(most) &&
                          vectors_fit<T>(s.channels, most, pooled, nullptr) && taps_fit(most, tap);
  choose<T>(s, vectorized, [&](auto w, auto vector) {
    constexpr int V = vector;
    const PixelBlocks pixel_blocks = make_pixel_blocks(s, V, reach);
    const dim3 blocks(static_cast<unsigned>(
        ceil_div(pixel_blocks.pixels, pixel_blocks.pixels_each) * pixel_blocks.channel_blocks));
    auto kernel = pool_forward_nhwc<T, decltype(w), V, reach, TensorsInParts<T>>;
    CAFFE_COMPAT_LAUNCH(kernel, blocks, dim3(kThreads), stream, nullptr, pooled, tap, nullptr, w,
                        pixel_blocks, relu, c, tensors);
  });
}

struct BackwardTiles {
  ChannelBlocks channels;
  InputTiling tiles;

  BackwardTiles(const PoolSizes& s, int v)
      : channels(make_channel_blocks(s, v)),
        tiles(make_tiles(s, kSlotVectors / channels.vectors, 8)) {}
  int64_t count(const PoolSizes& s) const { return s.batch * tiles.per_image(); }
};

// Returns how many rows of sums are written.
template <typename T, int reach>
int64_t launch_parts_backward(const GradientsInParts<T>& tensors, const T* pooled,
                              const uint8_t* tap, const PoolSizes& s,
                              const lrn_cuda::LrnConstants<compute_t<T>>& c, cudaStream_t stream) {
  constexpr int most = kVectorLength<T>;
  const bool vectorized = tensors.output_grad.fits(most) && tensors.input_grad.fits(most) &&
                          vectors_fit<T>(s.channels, most, pooled, nullptr) && taps_fit(most, tap);
  int64_t rows = 0;
  choose<T>(s, vectorized, [&](auto w, auto vector) {
    constexpr int V = vector;
    const BackwardTiles plan(s, V);
    rows = plan.count(s);
    auto kernel = pool_backward_nhwc<T, decltype(w), V, reach, GradientsInParts<T>>;
    CAFFE_COMPAT_LAUNCH(kernel, dim3(static_cast<unsigned>(rows * plan.channels.count)),
                        dim3(kThreads), stream, nullptr, pooled, tap, nullptr, w, plan.tiles,
                        plan.channels, c, tensors);
  });
  return rows;
}

}  // namespace pool_cuda

// Rows of `channels` sums that pool_parts_backward_cuda needs, at most.
template <typename T>
int64_t pool_parts_rows(const PoolSizes& s) {
  if (s.channels == 0) return 0;
  const int64_t one_by_one = pool_cuda::BackwardTiles(s, 1).count(s);
  if (s.channels % kVectorLength<T> != 0) return one_by_one;
  return std::max(one_by_one, pool_cuda::BackwardTiles(s, kVectorLength<T>).count(s));
}

// lrn: with size 0, none; then `pooled` is not used.
template <typename T>
void pool_parts_cuda(const ChannelParts<const T>& input, const ChannelBias<T>& bias,
                     const ChannelParts<T>& output, T* pooled, uint8_t* tap, const PoolSizes& s,
                     bool relu, const LrnParams& lrn, cudaStream_t stream) {
  if (s.batch * s.channels * s.out_pixels() == 0) return;
  const pool_cuda::TensorsInParts<T> tensors{input, output, bias};
  const lrn_cuda::LrnConstants<compute_t<T>> c(lrn);
  if (lrn.size > 0) {
    pool_cuda::launch_parts_forward<T, 2>(tensors, pooled, tap, s, relu, c, stream);
  } else {
    pool_cuda::launch_parts_forward<T, 0>(tensors, pooled, tap, s, relu, c, stream);
  }
}

template <typename T>
void pool_parts_backward_cuda(const ChannelParts<const T>& grad, const T* pooled,
                              const uint8_t* tap, const ChannelParts<T>& input_grad,
                              compute_t<T>* bias_grad, compute_t<T>* rows, const PoolSizes& s,
                              const LrnParams& lrn, cudaStream_t stream) {
  if (s.channels == 0) return;
  int64_t written = 0;
  if (s.batch * s.pixels() > 0) {
    const pool_cuda::GradientsInParts<T> tensors{grad, input_grad, rows};
    const lrn_cuda::LrnConstants<compute_t<T>> c(lrn);
    if (lrn.size > 0) {
      written = pool_cuda::launch_parts_backward<T, 2>(tensors, pooled, tap, s, c, stream);
    } else {
      written = pool_cuda::launch_parts_backward<T, 0>(tensors, pooled, tap, s, c, stream);
    }
  }
  sum_rows_cuda(rows, bias_grad, written, s.channels, stream);
}

}  // namespace caffe_compat
