// Max pooling on CUDA, alone or between ReLU and LRN: which kernel runs, and its launch.  Pointers
// are dense arrays in the layout that PoolSizes states.
#pragma once

#include "lrn/lrn_kernels.cuh"
#include "pool/pool_backward_kernels.cuh"
#include "pool/pool_forward_kernels.cuh"

namespace caffe_compat {
namespace pool_cuda {

// Whether LRN runs inside the pooling kernels.  Other windows and exponents are rare; they take
// max_pool's kernel and LRN's one after the other, for the same result.
inline bool is_fused(const LrnParams& p) {
  return p.size == 5 && !p.within_channel && lrn_power(p.beta) != LrnPower::kAny;
}

inline LrnShape pooled_shape(const PoolSizes& s) {
  return {s.batch, s.channels, s.out_height, s.out_width, s.channels_last};
}

inline bool taps_fit(int n, const uint8_t* tap) {
  return reinterpret_cast<uintptr_t>(tap) % n == 0;
}

// run(window, pack): the types to compile for.  V is 1 in NCHW, where packs are not used.
template <typename T, typename Run>
void choose(const PoolSizes& s, bool packed, const Run& run) {
  const auto with_window = [&](auto pack) {
    if (is_usual(s)) {
      run(UsualWindow(s), pack);
    } else {
      run(AnyWindow(s), pack);
    }
  };
  if (packed) {
    with_window(std::integral_constant<int, kPack<T>>{});
  } else {
    with_window(std::integral_constant<int, 1>{});
  }
}

template <typename T, int reach>
void launch_forward(const T* x, T* pooled, uint8_t* tap, T* y, const PoolSizes& s, bool relu,
                    const lrn_cuda::Constants<compute_t<T>>& c, cudaStream_t stream) {
  if (s.batch * s.channels * s.out_pixels() == 0) return;
  const bool packed =
      s.channels_last && packs_fit(s.channels, kPack<T>, x, pooled, y) && taps_fit(kPack<T>, tap);
  choose<T>(s, packed, [&](auto w, auto pack) {
    using W = decltype(w);
    constexpr int V = pack;
    if (s.channels_last) {
      const Lines lines = make_lines(s, V, reach);
      const dim3 blocks(ceil_div(lines.pixels, lines.pixels_each) * lines.chunks);
      auto kernel = forward_line<T, W, V, reach>;
      CAFFE_COMPAT_LAUNCH(kernel, blocks, kThreads, stream, x, pooled, tap, y, w, lines, relu, c);
    } else if constexpr (V == 1) {
      // Without LRN there are no seams, and pieces can be short.
      const lrn_cuda::Walk walk = lrn_cuda::make_walk(pooled_shape(s), 1, reach > 0 ? 24 : 4);
      auto kernel = forward_walk<T, W, reach>;
      CAFFE_COMPAT_LAUNCH(kernel, dim3(walk.blocks(kThreads)), kThreads, stream, x, pooled, tap, y,
                          w, walk, relu, c);
    }
  });
}

template <typename T, int reach>
void launch_backward(const T* dy, const T* pooled, const uint8_t* tap, T* dx, const PoolSizes& s,
                     const lrn_cuda::Constants<compute_t<T>>& c, cudaStream_t stream) {
  if (s.batch * s.channels * s.pixels() == 0) return;
  const bool packed =
      s.channels_last && packs_fit(s.channels, kPack<T>, dy, pooled, dx) && taps_fit(kPack<T>, tap);
  choose<T>(s, packed, [&](auto w, auto pack) {
    using W = decltype(w);
    constexpr int V = pack;
    if (s.channels_last) {
      const Chunks chunks = make_chunks(s, V);
      const Tiles tiles = make_tiles(s, kSlotPacks / chunks.packs, 8);
      auto kernel = backward_line<T, W, V, reach>;
      CAFFE_COMPAT_LAUNCH(kernel, dim3(s.batch * tiles.per_image() * chunks.chunks), kThreads,
                          stream, dy, pooled, tap, dx, w, tiles, chunks, c);
    } else if constexpr (V == 1) {
      const Tiles tiles = make_tiles(s, kThreads, 32);
      const int threads =
          ceil_div(tiles.slots() > tiles.units() ? tiles.slots() : tiles.units(), 32) * 32;
      const int64_t columns = s.batch * tiles.per_image() * threads;
      const int64_t each = lrn_cuda::channels_each(s.channels, columns, reach > 0 ? 24 : 4);
      const Planes planes{s.channels, each, ceil_div(s.channels, each)};
      auto kernel = backward_walk<T, W, reach>;
      CAFFE_COMPAT_LAUNCH(kernel, dim3(s.batch * tiles.per_image() * planes.walks), dim3(threads),
                          stream, dy, pooled, tap, dx, w, tiles, planes, c);
    }
  });
}

}  // namespace pool_cuda

template <typename T>
void max_pool_cuda(const T* x, T* y, uint8_t* tap, const PoolSizes& s, bool relu,
                   cudaStream_t stream) {
  const lrn_cuda::Constants<compute_t<T>> none(LrnParams{});
  pool_cuda::launch_forward<T, 0>(x, y, tap, nullptr, s, relu, none, stream);
}

template <typename T>
void max_pool_backward_cuda(const T* dy, const uint8_t* tap, T* dx, const PoolSizes& s,
                            cudaStream_t stream) {
  const lrn_cuda::Constants<compute_t<T>> none(LrnParams{});
  pool_cuda::launch_backward<T, 0>(dy, nullptr, tap, dx, s, none, stream);
}

template <typename T>
void relu_pool_lrn_cuda(const T* x, T* pooled, uint8_t* tap, T* y, const PoolSizes& s, bool relu,
                        const LrnParams& p, cudaStream_t stream) {
  if (pool_cuda::is_fused(p)) {
    const lrn_cuda::Constants<compute_t<T>> c(p);
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
    const lrn_cuda::Constants<compute_t<T>> c(p);
    return pool_cuda::launch_backward<T, 2>(dy, pooled, tap, dx, s, c, stream);
  }
  lrn_backward_cuda(dy, pooled, workspace, pool_cuda::pooled_shape(s), p, stream);
  max_pool_backward_cuda(workspace, tap, dx, s, stream);
}

}  // namespace caffe_compat
