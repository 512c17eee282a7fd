// Max pooling backward, alone (reach 0) or behind LRN's backward pass in the same kernel.
//
// A block owns a tile of the input's pixels.  It brings the gradients and taps of the windows that
// cover the tile to shared memory, through LRN's backward pass where there is one, and then each
// pixel sums those whose tap it is: no atomics, every element of dx written once, in a fixed order.
// One kernel and not two, because the bytes say so: CaffeNet's first chain at batch 256 in float32
// reads 72 + 72 + 18 MB and writes 297; LRN's gradient through memory would add 143 MB (31 %). What
// the tiles read twice at their edges is 10 to 40 % of the small tensors, mostly from the
// second-level cache.
#pragma once

#include "lrn/lrn_walk_kernels.cuh"
#include "pool/pool_device.cuh"

namespace caffe_compat {
namespace pool_cuda {

// ---- NCHW ---------------------------------------------------------------------------------------

// Pieces of `channels_each` channels of each tile are neighbouring blocks.
struct Planes {
  int64_t channels, channels_each, walks;
};

// A thread owns one window of the tile and walks down the channels, a pack of them between two
// barriers; then the block shares out the tile's pixels.
template <typename T, typename W, int reach>
__global__ void __launch_bounds__(kThreads, (kLeastBlocks<T, W>))
    backward_walk(const T* __restrict__ dy, const T* __restrict__ pooled,
                  const uint8_t* __restrict__ tap, T* __restrict__ dx, W w, Tiles tiles,
                  Planes planes, lrn_cuda::Constants<compute_t<T>> c) {
  using A = compute_t<T>;
  constexpr int step = lrn_cuda::kCarriedPack<T>;
  using Grads = Pack<T, step>;
  using Taps = Pack<uint8_t, step>;
  // Two buffers, so that one barrier a step is enough: nobody can be two steps ahead.
  CAFFE_COMPAT_SHARED(Grads, grads, 2 * kThreads);
  CAFFE_COMPAT_SHARED(Taps, taps, 2 * kThreads);

  const int64_t tile_number = blockIdx.x / planes.walks;
  const int64_t image = tile_number / tiles.per_image();
  const int64_t first = blockIdx.x % planes.walks * planes.channels_each;
  const int64_t end = first + planes.channels_each;
  const int64_t last = end < planes.channels ? end : planes.channels;
  const Tile tile = find_tile(w, tiles, tile_number % tiles.per_image());
  const int thread = threadIdx.x;
  const bool has_window = thread < tile.out_rows() * tile.out_columns();
  const int64_t out_plane = static_cast<int64_t>(w.out_height) * w.out_width;
  const int64_t plane = static_cast<int64_t>(w.height) * w.width;
  const int columns = tile.out_columns() > 0 ? tile.out_columns() : 1;
  const int64_t window = image * planes.channels * out_plane +
                         static_cast<int64_t>(tile.out_top + thread / columns) * w.out_width +
                         tile.out_left + thread % columns;
  dx += image * planes.channels * plane;

  const auto read = [&](const T* from) {
    return [=](int64_t q, A(&to)[1]) {
      const bool inside = has_window && q >= 0 && q < planes.channels;
      to[0] = inside ? static_cast<A>(from[window + q * out_plane]) : A(0);
    };
  };
  const auto read_dy = read(dy), read_pooled = read(pooled);
  constexpr int carried_reach = reach > 0 ? reach : 1;  // not used where there is no LRN
  lrn_cuda::Carried<A, 1, carried_reach, step> carried;
  if constexpr (reach > 0) carried.start(first, read_pooled, read_dy, c);

  int buffer = 0;
  for (int64_t channel = first; channel < last; channel += step, buffer ^= kThreads) {
    A grad[step];
    int own_tap[step];
    if constexpr (reach > 0) carried.take(channel, read_pooled, read_dy, c);
#pragma unroll
    for (int j = 0; j < step; ++j) {
      const int64_t q = channel + j;
      const bool inside = has_window && q < planes.channels;
      own_tap[j] = inside ? tap[window + q * out_plane] : kNoTap;
      if constexpr (reach > 0) {
        grad[j] = carried.give(j, 0, c);
      } else {
        A one[1];
        read_dy(q, one);
        grad[j] = one[0];
      }
    }
    if constexpr (reach > 0) carried.move_on();
    T* const step_grads = reinterpret_cast<T*>(grads + buffer);
    uint8_t* const step_taps = reinterpret_cast<uint8_t*>(taps + buffer);
    store<step>(grad, step_grads + thread * step);
    store_taps<step>(own_tap, step_taps + thread * step);
    __syncthreads();

    const auto put = [&](int h, int column, const A(&sum)[step]) {
      T* const to = dx + channel * plane + static_cast<int64_t>(h) * w.width + column;
#pragma unroll
      for (int j = 0; j < step; ++j) {
        if (channel + j < last) to[j * plane] = static_cast<T>(sum[j]);
      }
    };
    gather_tile<step>(step_grads, step_taps, step, w, tiles, tile, thread, blockDim.x, put);
  }
}

// ---- NHWC ---------------------------------------------------------------------------------------

// Blocks of one tile x `packs` packs of V channels; `chunks` of them side by side in the channels.
struct Chunks {
  int64_t channels, chunks;
  int packs;
};
constexpr int kSlotPacks = 1600;  // windows x packs of a block

template <typename T, typename W, int V, int reach>
__global__ void __launch_bounds__(kThreads, (kLeastBlocks<T, W>))
    backward_line(const T* __restrict__ dy, const T* __restrict__ pooled,
                  const uint8_t* __restrict__ tap, T* __restrict__ dx, W w, Tiles tiles,
                  Chunks chunks, lrn_cuda::Constants<compute_t<T>> c) {
  using A = compute_t<T>;
  using Grads = Pack<T, V>;
  using Taps = Pack<uint8_t, V>;
  CAFFE_COMPAT_SHARED(Grads, grad_memory, kSlotPacks);
  CAFFE_COMPAT_SHARED(Taps, tap_memory, kSlotPacks);
  T* const grads = reinterpret_cast<T*>(grad_memory);
  uint8_t* const taps = reinterpret_cast<uint8_t*>(tap_memory);

  const int64_t tile_number = blockIdx.x / chunks.chunks;
  const int64_t image = tile_number / tiles.per_image();
  const Tile tile = find_tile(w, tiles, tile_number % tiles.per_image());
  // A thread keeps its channels and takes every `together`-th window and pixel.
  const int packs = chunks.packs, pitch = packs * V, together = blockDim.x / packs;
  const int start = threadIdx.x / packs, at = threadIdx.x % packs * V;
  const int64_t channel = blockIdx.x % chunks.chunks * static_cast<int64_t>(pitch) + at;
  const bool busy = start < together && channel < chunks.channels;
  const int windows = busy ? tile.out_rows() * tile.out_columns() : 0;

  for (int p = start; p < windows; p += together) {
    const int i = tile.out_top + p / tile.out_columns();
    const int j = tile.out_left + p % tile.out_columns();
    const int64_t row = ((image * w.out_height + i) * w.out_width + j) * chunks.channels;
    A grad[V];
    int own_tap[V];
    load_taps<V>(tap + row + channel, own_tap);
    if constexpr (reach > 0) {
      lrn_cuda::gradient_line<V, reach>(dy + row, pooled + row, chunks.channels, channel, grad, c);
    } else {
      load<V>(dy + row + channel, grad);
    }
    store<V>(grad, grads + p * pitch + at);
    store_taps<V>(own_tap, taps + p * pitch + at);
  }
  __syncthreads();

  if (!busy) return;
  const auto put = [&](int h, int column, const A(&sum)[V]) {
    store<V>(sum, dx + ((image * w.height + h) * w.width + column) * chunks.channels + channel);
  };
  gather_tile<V>(grads + at, taps + at, pitch, w, tiles, tile, start, together, put);
}

inline Chunks make_chunks(const PoolSizes& s, int v) {
  const int64_t windows = ceil_div(s.kernel_h, s.stride_h) * ceil_div(s.kernel_w, s.stride_w);
  const int64_t packs = s.channels / v,
                most = kSlotPacks / windows < 32 ? kSlotPacks / windows : 32;
  const int64_t chunks = ceil_div(packs, most), each = ceil_div(packs, chunks);
  return {s.channels, ceil_div(packs, each), static_cast<int>(each)};
}

}  // namespace pool_cuda
}  // namespace caffe_compat
