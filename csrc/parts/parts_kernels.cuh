// Bias and ReLU between tensors whose channels are in parts, and their gradient, on CUDA.
//
//   forward    output = max(input + bias, 0)
//   backward   input_grad = scale * grad where output > 0;
//              bias_grad = sum of input_grad over all pixels
//
// Input and output may be in different numbers of parts, so that this is also the copy between two
// ways of lying.  Every element is read once and written once; the sums of a block of the backward
// pass stay in registers, and go out as one row of partial sums.
#pragma once

#include <algorithm>
#include <type_traits>

#include "parts/partial_sums.cuh"
#include "parts/parts_device.cuh"

namespace caffe_compat {
namespace parts_cuda {

// A block has `pixels_each` pixels and `vectors` vectors of V channels; `channel_blocks`
// neighbouring blocks share out the channels of a pixel.
struct PixelTiling {
  int64_t pixels, channels;
  int64_t channel_blocks, pixel_blocks, pixels_each;
  int vectors;

  int64_t blocks() const { return channel_blocks * pixel_blocks; }
};
// Pixels that a thread reads before it works on the first of them, and blocks on an SM at least.
constexpr int kAhead = 4, kBackwardAhead = 2, kLeastPartsBlocks = 3;
constexpr int64_t kForwardPixelsAThread = 2 * kAhead;
// Blocks of the backward kernel, about: few rows of partial sums, and enough to fill a GPU.
constexpr int64_t kSumBlocks = 2 * kFullGridBlocks;

inline PixelTiling make_tiling(int64_t pixels, int64_t channels, int v, int64_t most_blocks) {
  const int64_t vectors = channels / v, channel_blocks = ceil_div(vectors, 64);
  const int64_t each = ceil_div(vectors, channel_blocks), together = kThreads / each;
  const int64_t least = together * kForwardPixelsAThread;
  const int64_t blocks = std::max<int64_t>(most_blocks / channel_blocks, 1);
  const int64_t pixels_each = std::max(least, ceil_div(pixels, blocks));
  return {.pixels = pixels,
          .channels = channels,
          .channel_blocks = ceil_div(vectors, each),
          .pixel_blocks = ceil_div(pixels, pixels_each),
          .pixels_each = pixels_each,
          .vectors = static_cast<int>(each)};
}

// What a thread works on: it keeps its channels and takes every `together`-th pixel of the block.
struct OwnPixels {
  int64_t first, last, channel, first_channel;
  int together;
};

template <int V>
__device__ __forceinline__ OwnPixels own_pixels(const PixelTiling& t) {
  const int thread = threadIdx.x, together = static_cast<int>(blockDim.x) / t.vectors;
  const int64_t block_pixel = blockIdx.x / t.channel_blocks * t.pixels_each;
  const int64_t behind = block_pixel + t.pixels_each;
  OwnPixels own;
  own.first_channel = blockIdx.x % t.channel_blocks * static_cast<int64_t>(t.vectors) * V;
  own.channel = own.first_channel + thread % t.vectors * V;
  own.first = block_pixel + thread / t.vectors;
  own.last = behind < t.pixels ? behind : t.pixels;
  own.together = together;
  if (thread / t.vectors >= together || own.channel >= t.channels) own.last = 0;
  return own;
}

template <typename T, int V>
__global__ void __launch_bounds__(kThreads, kLeastPartsBlocks)
    bias_relu_parts_kernel(ChannelParts<const T> input, ChannelParts<T> output, ChannelBias<T> bias,
                           PixelTiling tiling, bool relu) {
  using A = compute_t<T>;
  const OwnPixels own = own_pixels<V>(tiling);
  if (own.first >= own.last) return;
  const ChannelPlace<const T> from = input.find(own.channel);
  const ChannelPlace<T> to = output.find(own.channel);
  A added[V];
  bias.template load_at<V>(own.channel, added);
  for (int64_t p = own.first; p < own.last; p += kAhead * own.together) {
    AlignedVector<T, V> ahead[kAhead];
#pragma unroll
    for (int a = 0; a < kAhead; ++a) {
      const int64_t pixel = p + a * own.together;
      if (pixel >= own.last) continue;
      ahead[a] = *reinterpret_cast<const AlignedVector<T, V>*>(from.at + pixel * from.pitch);
    }
#pragma unroll
    for (int a = 0; a < kAhead; ++a) {
      const int64_t pixel = p + a * own.together;
      if (pixel >= own.last) continue;
      A out[V];
#pragma unroll
      for (int v = 0; v < V; ++v) {
        out[v] = static_cast<A>(ahead[a].values[v]);
        if (bias.any()) out[v] = add_bias<T>(out[v], added[v]);
        if (relu && out[v] <= 0) out[v] = 0;  // NaN is passed on
      }
      store_whole<V>(out, to.at + pixel * to.pitch);
    }
  }
}

template <typename T, int V>
__global__ void __launch_bounds__(kThreads, kLeastPartsBlocks)
    bias_relu_parts_backward_kernel(ChannelParts<const T> grad, ChannelParts<const T> output,
                                    ChannelParts<T> input_grad, compute_t<T>* __restrict__ rows,
                                    PixelTiling tiling, bool relu, compute_t<T> scale) {
  using A = compute_t<T>;
  using Vector = AlignedVector<T, V>;
  CAFFE_COMPAT_SHARED(A, threads_sums, kThreads * V);
  const OwnPixels own = own_pixels<V>(tiling);
  A sums[V] = {};
  if (own.first < own.last) {
    const ChannelPlace<const T> from = grad.find(own.channel);
    const ChannelPlace<const T> made = output.find(own.channel);
    const ChannelPlace<T> to = input_grad.find(own.channel);
    for (int64_t p = own.first; p < own.last; p += kBackwardAhead * own.together) {
      Vector grads[kBackwardAhead], outputs[kBackwardAhead];
#pragma unroll
      for (int a = 0; a < kBackwardAhead; ++a) {
        const int64_t pixel = p + a * own.together;
        if (pixel >= own.last) continue;
        grads[a] = *reinterpret_cast<const Vector*>(from.at + pixel * from.pitch);
        if (relu) outputs[a] = *reinterpret_cast<const Vector*>(made.at + pixel * made.pitch);
      }
#pragma unroll
      for (int a = 0; a < kBackwardAhead; ++a) {
        const int64_t pixel = p + a * own.together;
        if (pixel >= own.last) continue;
        A out[V];
#pragma unroll
        for (int v = 0; v < V; ++v) {
          const bool flows = !relu || static_cast<A>(outputs[a].values[v]) > 0;
          out[v] = flows ? static_cast<A>(grads[a].values[v]) * scale : A(0);
          sums[v] += out[v];
        }
        store_whole<V>(out, to.at + pixel * to.pitch);
      }
    }
  }
  const int64_t row = blockIdx.x / tiling.channel_blocks;
  write_block_sums<V>(sums, threads_sums, tiling.vectors, own.together,
                      tiling.channels - own.first_channel,
                      rows + row * tiling.channels + own.first_channel);
}

// Calls run(V): how many channels an access moves, as a constant.
template <typename T, typename Run>
void choose_vector(bool fits, const Run& run) {
  if (fits) {
    run(std::integral_constant<int, kVectorLength<T>>{});
  } else {
    run(std::integral_constant<int, 1>{});
  }
}

}  // namespace parts_cuda

template <typename T>
void bias_relu_parts_cuda(const ChannelParts<const T>& input, const ChannelParts<T>& output,
                          const ChannelBias<T>& bias, int64_t pixels, int64_t channels, bool relu,
                          cudaStream_t stream) {
  if (pixels * channels == 0) return;
  constexpr int most = kVectorLength<T>;
  parts_cuda::choose_vector<T>(
      input.fits(most) && output.fits(most) && bias.fits(most), [&](auto vector) {
        constexpr int V = vector;
        const parts_cuda::PixelTiling tiling =
            parts_cuda::make_tiling(pixels, channels, V, int64_t{1} << 30);
        auto kernel = parts_cuda::bias_relu_parts_kernel<T, V>;
        CAFFE_COMPAT_LAUNCH(kernel, dim3(static_cast<unsigned>(tiling.blocks())), dim3(kThreads),
                            stream, input, output, bias, tiling, relu);
      });
}

// Rows of partial sums that bias_relu_parts_backward_cuda writes, at most.
inline int64_t bias_relu_parts_rows() { return parts_cuda::kSumBlocks; }

// `rows` has bias_relu_parts_rows() rows of `channels`.
template <typename T>
void bias_relu_parts_backward_cuda(const ChannelParts<const T>& grad,
                                   const ChannelParts<const T>& output,
                                   const ChannelParts<T>& input_grad, compute_t<T>* bias_grad,
                                   compute_t<T>* rows, int64_t pixels, int64_t channels, bool relu,
                                   compute_t<T> scale, cudaStream_t stream) {
  if (channels == 0) return;
  constexpr int most = kVectorLength<T>;
  int64_t written = 0;
  if (pixels > 0) {
    parts_cuda::choose_vector<T>(
        grad.fits(most) && output.fits(most) && input_grad.fits(most), [&](auto vector) {
          constexpr int V = vector;
          const parts_cuda::PixelTiling tiling =
              parts_cuda::make_tiling(pixels, channels, V, parts_cuda::kSumBlocks);
          written = tiling.pixel_blocks;
          auto kernel = parts_cuda::bias_relu_parts_backward_kernel<T, V>;
          CAFFE_COMPAT_LAUNCH(kernel, dim3(static_cast<unsigned>(tiling.blocks())), dim3(kThreads),
                              stream, grad, output, input_grad, rows, tiling, relu, scale);
        });
  }
  sum_rows_cuda(rows, bias_grad, written, channels, stream);
}

}  // namespace caffe_compat
