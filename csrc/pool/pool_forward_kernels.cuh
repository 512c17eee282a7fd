// Max pooling forward, alone (reach 0) or with LRN across 2 reach + 1 channels in the same kernel.
//
//   pooled = maximum of a window's elements, with relu of 0 and them;  tap = which of them it is
//   y = LRN(pooled)
//
// The fused kernel reads the input once and writes pooled values, taps and LRN's output; nothing
// goes through memory twice.  CaffeNet's first chain at batch 256 in float32: 297 MB in, 72 + 18 +
// 72 MB out, where three operators one by one move 1,100 MB.
#pragma once

#include "lrn/lrn_walk_kernels.cuh"
#include "pool/pool_device.cuh"

namespace caffe_compat {
namespace pool_cuda {

// ---- NCHW ---------------------------------------------------------------------------------------

// A thread owns one output pixel and walks down the channels, LRN's window in registers (the
// picture is in lrn_walk_kernels.cuh).  The pixels of a block are neighbours in the order of the
// plane, so that what overlapping windows share comes from the L1 cache, and no thread idles where
// a plane is narrow.
template <typename T, typename W, int reach>
__global__ void __launch_bounds__(kThreads, (kLeastBlocks<T, W>))
    pool_forward_nchw(const T* __restrict__ x, T* __restrict__ pooled, uint8_t* __restrict__ tap,
                      T* __restrict__ y, W w, lrn_cuda::ChannelWalk walk, bool relu,
                      lrn_cuda::LrnConstants<compute_t<T>> c) {
  using A = compute_t<T>;
  int64_t first, out;  // out: offset of this thread's pixel in channel 0
  if (!lrn_cuda::find_walk<1>(walk, blockIdx.x, blockDim.x, threadIdx.x, first, out)) return;
  const int64_t last =
      first + walk.channels_each < walk.channels ? first + walk.channels_each : walk.channels;
  const int64_t image = out / (walk.channels * walk.pixels), pixel = out % walk.pixels;
  const int top = static_cast<int>(pixel / w.out_width) * w.stride_h() - w.pad_h;
  const int left = static_cast<int>(pixel % w.out_width) * w.stride_w() - w.pad_w;
  const int64_t plane = static_cast<int64_t>(w.height) * w.width;
  x += image * walk.channels * plane;

  // The pooled value of channel q, zero outside; stored by the walk that owns the channel.
  const auto pool = [&](int64_t q) -> A {
    if (q < 0 || q >= walk.channels) return 0;
    const WindowMaximum<A, 1> best = pool_window<1>(x + q * plane, 1, w, top, left, relu);
    if (q >= first && q < last) {
      const int64_t at = out + q * walk.pixels;
      pooled[at] = static_cast<T>(best.value[0]);
      tap[at] = static_cast<uint8_t>(best.tap[0]);
    }
    return best.value[0];
  };
  A window[2 * reach + 1];  // channels from channel - reach on
#pragma unroll
  for (int j = 0; j < 2 * reach; ++j) window[j] = pool(first - reach + j);
  for (int64_t channel = first; channel < last; ++channel) {
    window[2 * reach] = pool(channel + reach);
    if constexpr (reach > 0) {
      y[out + channel * walk.pixels] = static_cast<T>(lrn_cuda::normalise<reach>(window, 1, c));
#pragma unroll
      for (int j = 0; j < 2 * reach; ++j) window[j] = window[j + 1];
    }
  }
}

// ---- NHWC ---------------------------------------------------------------------------------------

// A block has `pixels_each` output pixels and `vectors` vectors of V channels.  Where a pixel's
// channels make more than one block (`channel_blocks`), each also pools the channels beside its own
// that LRN needs, its halo.
struct PixelBlocks {
  int64_t pixels, channels;
  int64_t channel_blocks;
  int vectors, pixels_each;
};
constexpr int kPixelsAThread = 4;

// An output pixel of the batch, or a distance between two; advance() goes on without a division.
struct OutPixel {
  int64_t image;
  int row, column;

  template <typename W>
  __device__ __forceinline__ OutPixel(int64_t number, const W& w)
      : image(number / w.out_width / w.out_height),
        row(static_cast<int>(number / w.out_width % w.out_height)),
        column(static_cast<int>(number % w.out_width)) {}

  template <typename W>
  __device__ __forceinline__ void advance(const OutPixel& step, const W& w) {
    column += step.column, row += step.row, image += step.image;
    if (column >= w.out_width) column -= w.out_width, ++row;
    if (row >= w.out_height) row -= w.out_height, ++image;
  }
};

template <typename T, typename W, int V, int reach, typename Tensors = WholeTensors>
__global__ void __launch_bounds__(kThreads, (V == 8 ? 1 : kLeastBlocks<T, W>))
    pool_forward_nhwc(const T* __restrict__ x, T* __restrict__ pooled, uint8_t* __restrict__ tap,
                      T* __restrict__ y, W w, PixelBlocks blocks, bool relu,
                      lrn_cuda::LrnConstants<compute_t<T>> c, Tensors tensors) {
  using A = compute_t<T>;
  const int halo = reach > 0 && blocks.channel_blocks > 1 ? lrn_cuda::vectors_beside<V>(reach) : 0;
  const int row_vectors = blocks.vectors + 2 * halo, row = row_vectors * V;
  const int64_t first_channel =
      blockIdx.x % blocks.channel_blocks * static_cast<int64_t>(blocks.vectors) * V - halo * V;
  const int64_t first_pixel = blockIdx.x / blocks.channel_blocks * blocks.pixels_each;
  const int64_t left_over = blocks.pixels - first_pixel;
  const int pixels = left_over < blocks.pixels_each ? left_over : blocks.pixels_each;
  // A thread keeps its channels and takes every `together`-th pixel of the block.
  const int thread = threadIdx.x;
  const int vector = thread % row_vectors, together = static_cast<int>(blockDim.x) / row_vectors;
  const int64_t channel = first_channel + vector * V;
  const bool inside = channel >= 0 && channel < blocks.channels;
  const bool own = inside && vector >= halo && vector < halo + blocks.vectors;
  const int start = thread / row_vectors < together ? thread / row_vectors : pixels;
  ChannelPlace<const T> from;
  [[maybe_unused]] ChannelPlace<T> out_place{nullptr, 0};
  [[maybe_unused]] A bias[V];
  bool relu_first = relu;
  if constexpr (Tensors::in_parts) {
    from = tensors.input.find(channel);
    out_place = tensors.output.find(channel);
    if (inside) tensors.bias.template load_at<V>(channel, bias);
    relu_first = relu && !tensors.bias.any();
  } else {
    from = {x + channel, blocks.channels};
  }

  // Pooled values of the block for LRN: [pixel][channel, halo included].
  using Values = AlignedVector<T, V>;
  CAFFE_COMPAT_SHARED(Values, memory, reach > 0 ? kPixelsAThread * kThreads : 1);
  T* const shared = reinterpret_cast<T*>(memory);
  OutPixel at(first_pixel + start, w), step(together, w);
  for (int p = start; p < pixels; p += together, at.advance(step, w)) {
    WindowMaximum<A, V> best = {};
    if (inside) {
      const int top = at.row * w.stride_h() - w.pad_h, left = at.column * w.stride_w() - w.pad_w;
      const T* origin = from.at + at.image * w.height * w.width * from.pitch;
      best = pool_window<V>(origin, from.pitch, w, top, left, relu_first);
      if constexpr (Tensors::in_parts) {
        if (tensors.bias.any()) add_bias_to<T>(best, bias, relu);
      }
    }
    if (own) {
      const int64_t to = (first_pixel + p) * blocks.channels + channel;
      if constexpr (Tensors::in_parts && reach == 0) {
        store_whole<V>(best.value, out_place.at + (first_pixel + p) * out_place.pitch);
      } else {
        store_whole<V>(best.value, pooled + to);
      }
      store_taps<V>(best.tap, tap + to);
    }
    if constexpr (reach > 0) store<V>(best.value, shared + p * row + vector * V);
  }
  if constexpr (reach > 0) {
    __syncthreads();
    for (int p = start; p < pixels; p += together) {
      if (!own) continue;
      A out[V];
      lrn_cuda::normalise_row<V, reach>(shared + p * row, row, vector * V, out, c);
      if constexpr (Tensors::in_parts) {
        store_whole<V>(out, out_place.at + (first_pixel + p) * out_place.pitch);
      } else {
        store_whole<V>(out, y + (first_pixel + p) * blocks.channels + channel);
      }
    }
  }
}

// At most 64 vectors, so that few of a block's kThreads threads are left over.
inline PixelBlocks make_pixel_blocks(const PoolSizes& s, int v, int reach) {
  const int64_t vectors = s.channels / v, channel_blocks = ceil_div(vectors, 64);
  const int64_t each = ceil_div(vectors, channel_blocks);
  const int64_t beside = channel_blocks > 1 ? ceil_div(reach, v) : 0;
  const int64_t together = kThreads / (each + 2 * beside);
  return {.pixels = s.batch * s.out_pixels(),
          .channels = s.channels,
          .channel_blocks = ceil_div(vectors, each),
          .vectors = static_cast<int>(each),
          .pixels_each = static_cast<int>(together * kPixelsAThread)};
}

}  // namespace pool_cuda
}  // namespace caffe_compat
