// Max pooling on CUDA, alone or between ReLU and LRN: which kernel runs, and its launch.  Pointers
// are dense arrays in the layout that PoolSizes states.
#pragma once

#include "lrn/lrn_kernels.cuh"
#include "pool/pool_backward_kernels.cuh"
#include "pool/pool_forward_kernels.cuh"

namespace caffe_compat {
namespace pool_cuda {

// Whether LRN runs inside the pooling kernels.  Other windows of LRN and other exponents are rare:
// for them max_pool's kernel and LRN's run one after the other.
inline bool is_fused(const LrnParams& p) {
  return p.size == 5 && !p.within_channel && lrn_power(p.beta) != LrnPower::kAny;
}

// Channels of a walk without LRN, at least: it reads nothing twice, so that it can be short.
constexpr int64_t kLeastPooledChannels = 4;

inline LrnShape pooled_shape(const PoolSizes& s) {
  return {.batch = s.batch,
          .channels = s.channels,
          .height = s.out_height,
          .width = s.out_width,
          .channels_last = s.channels_last};
}

inline bool taps_fit(int n, const uint8_t* tap) {
  return reinterpret_cast<uintptr_t>(tap) % n == 0;
}

// Calls run(window, V): a PoolWindow, and how many channels an access moves, as a constant.  V is 1
// in NCHW, where the channels of a pixel are far apart.
template <typename T, typename Run>
void choose(const PoolSizes& s, bool vectorized, const Run& run) {
  const auto with_window = [&](auto vector) {
    if (is_usual(s)) {
      run(UsualPoolWindow(s), vector);
    } else {
      run(AnyPoolWindow(s), vector);
    }
  };
  if (vectorized) {
    with_window(std::integral_constant<int, kVectorLength<T>>{});
  } else {
    with_window(std::integral_constant<int, 1>{});
  }
}

template <typename T, int reach>
void launch_forward(const T* x, T* pooled, uint8_t* tap, T* y, const PoolSizes& s, bool relu,
                    const lrn_cuda::LrnConstants<compute_t<T>>& c, cudaStream_t stream) {
  if (s.batch * s.channels * s.out_pixels() == 0) return;
  const bool vectorized = s.channels_last &&
                          vectors_fit(s.channels, kVectorLength<T>, x, pooled, y) &&
                          taps_fit(kVectorLength<T>, tap);
  choose<T>(s, vectorized, [&](auto w, auto vector) {
    using W = decltype(w);
    constexpr int V = vector;
    if (s.channels_last) {
      const PixelBlocks pixel_blocks = make_pixel_blocks(s, V, reach);
      const dim3 blocks(ceil_div(pixel_blocks.pixels, pixel_blocks.pixels_each) *
                        pixel_blocks.channel_blocks);
      auto kernel = pool_forward_nhwc<T, W, V, reach>;
      CAFFE_COMPAT_LAUNCH(kernel, blocks, kThreads, stream, x, pooled, tap, y, w, pixel_blocks,
                          relu, c, WholeTensors{});
    } else if constexpr (V == 1) {
      const lrn_cuda::ChannelWalk walk = lrn_cuda::make_walk(
          pooled_shape(s), 1, reach > 0 ? lrn_cuda::kLeastChannels : kLeastPooledChannels);
      auto kernel = pool_forward_nchw<T, W, reach>;
      CAFFE_COMPAT_LAUNCH(kernel, dim3(walk.blocks(kThreads)), kThreads, stream, x, pooled, tap, y,
                          w, walk, relu, c);
    }
  });
}

template <typename T, int reach>
void launch_backward(const T* dy, const T* pooled, const uint8_t* tap, T* dx, const PoolSizes& s,
                     const lrn_cuda::LrnConstants<compute_t<T>>& c, cudaStream_t stream) {
  if (s.batch * s.channels * s.pixels() == 0) return;
  const bool vectorized = s.channels_last &&
                          vectors_fit(s.channels, kVectorLength<T>, dy, pooled, dx) &&
                          taps_fit(kVectorLength<T>, tap);
  choose<T>(s, vectorized, [&](auto w, auto vector) {
    using W = decltype(w);
    constexpr int V = vector;
    if (s.channels_last) {
      const ChannelBlocks channel_blocks = make_channel_blocks(s, V);
      const InputTiling tiles = make_tiles(s, kSlotVectors / channel_blocks.vectors, 8);
      auto kernel = pool_backward_nhwc<T, W, V, reach>;
      CAFFE_COMPAT_LAUNCH(kernel, dim3(s.batch * tiles.per_image() * channel_blocks.count),
                          kThreads, stream, dy, pooled, tap, dx, w, tiles, channel_blocks, c,
                          WholeTensors{});
    } else if constexpr (V == 1) {
      const InputTiling tiles = make_tiles(s, kThreads, 32);
      const int threads =
          ceil_div(tiles.slots() > tiles.units() ? tiles.slots() : tiles.units(), 32) * 32;
      const int64_t columns = s.batch * tiles.per_image() * threads;
      const int64_t each = lrn_cuda::channels_each(
          s.channels, columns, reach > 0 ? lrn_cuda::kLeastChannels : kLeastPooledChannels);
      const ChannelPieces planes{s.channels, each, ceil_div(s.channels, each)};
      auto kernel = pool_backward_nchw<T, W, reach>;
      CAFFE_COMPAT_LAUNCH(kernel, dim3(s.batch * tiles.per_image() * planes.walks), dim3(threads),
                          stream, dy, pooled, tap, dx, w, tiles, planes, c);
    }
  });
}

}  // namespace pool_cuda

template <typename T>
void max_pool_cuda(const T* x, T* y, uint8_t* tap, const PoolSizes& s, bool relu,
                   cudaStream_t stream) {
  const lrn_cuda::LrnConstants<compute_t<T>> none(LrnParams{});
  pool_cuda::launch_forward<T, 0>(x, y, tap, nullptr, s, relu, none, stream);
}

template <typename T>
void max_pool_backward_cuda(const T* dy, const uint8_t* tap, T* dx, const PoolSizes& s,
                            cudaStream_t stream) {
  const lrn_cuda::LrnConstants<compute_t<T>> none(LrnParams{});
  pool_cuda::launch_backward<T, 0>(dy, nullptr, tap, dx, s, none, stream);
}

template <typename T>
void relu_pool_lrn_cuda(const T* x, T* pooled, uint8_t* tap, T* y, const PoolSizes& s, bool relu,
                        const LrnParams& p, cudaStream_t stream) {
  if (pool_cuda::is_fused(p)) {
    const lrn_cuda::LrnConstants<compute_t<T>> c(p);
    return pool_cuda::launch_forward<T, 2>(x, pooled, tap, y, s, relu, c, stream);
  }
  max_pool_cuda(x, pooled, tap, s, relu, stream);
  lrn_forward_cuda(pooled, y, pool_cuda::pooled_shape(s), p, stream);
}

// Elements of the temporary array that relu_pool_lrn_backward_cuda needs: none where it is fused.
inline int64_t relu_pool_lrn_workspace(const PoolSizes& s, const LrnParams& p) {
  return pool_cuda::is_fused(p) ? 0 : s.batch * s.channels * s.out_pixels();
}

template <typename T>
void relu_pool_lrn_backward_cuda(const T* dy, const T* pooled, const uint8_t* tap, T* dx,
                                 T* workspace, const PoolSizes& s, const LrnParams& p,
                                 cudaStream_t stream) {
  if (pool_cuda::is_fused(p)) {
    const lrn_cuda::LrnConstants<compute_t<T>> c(p);
    return pool_cuda::launch_backward<T, 2>(dy, pooled, tap, dx, s, c, stream);
  }
  lrn_backward_cuda(dy, pooled, workspace, pool_cuda::pooled_shape(s), p, stream);
  max_pool_backward_cuda(workspace, tap, dx, s, stream);
}

}  // namespace caffe_compat
