// Max pooling backward, alone (reach 0) or behind LRN's backward pass in the same kernel.
//
//   dx[pixel] = sum of dy over the windows whose tap is this pixel
//
// A block owns a tile of the input's pixels (see InputTiling):
//
//   global: dy and tap                 shared: gradient and         global: dx, of each pixel
//   of the windows      --- LRN's -->  tap of each window   ----->  the sum over the windows
//   over the tile       backward pass                               that chose it
//
// No atomics; every element of dx is written once, and summed in a fixed order.
// One kernel and not two, because the bytes say so: CaffeNet's first chain at batch 256 in float32
// reads 72 + 72 + 18 MB and writes 297; LRN's gradient through memory would add 143 MB (31 %). What
// the tiles read twice at their edges is 10 to 40 % of the small tensors, mostly from the
// L2 cache.
#pragma once

#include "lrn/lrn_walk_kernels.cuh"
#include "parts/partial_sums.cuh"
#include "pool/pool_device.cuh"

namespace caffe_compat {
namespace pool_cuda {

// ---- NCHW ---------------------------------------------------------------------------------------

// Each tile is walked in `walks` pieces of `channels_each` channels, by neighbouring blocks.
struct ChannelPieces {
  int64_t channels, channels_each, walks;
};

// A thread owns one window of the tile and walks down the channels, `step` of them at a time.  In
// each step the threads then share out the tile's pixels and write dx of these channels.
template <typename T, typename W, int reach>
__global__ void __launch_bounds__(kThreads, (kLeastBlocks<T, W>))
    pool_backward_nchw(const T* __restrict__ dy, const T* __restrict__ pooled,
                       const uint8_t* __restrict__ tap, T* __restrict__ dx, W w, InputTiling tiles,
                       ChannelPieces planes, lrn_cuda::LrnConstants<compute_t<T>> c) {
  using A = compute_t<T>;
  constexpr int step = lrn_cuda::kBackwardWalkLength<T>;
  using Grads = AlignedVector<T, step>;
  using Taps = AlignedVector<uint8_t, step>;
  // Two buffers take turns, so that one barrier a step is enough: whoever writes a buffer again has
  // passed the barrier of the step between, which its readers reach only after they have read.
  CAFFE_COMPAT_SHARED(Grads, grads, 2 * kThreads);
  CAFFE_COMPAT_SHARED(Taps, taps, 2 * kThreads);

  const int64_t tile_number = blockIdx.x / planes.walks;
  const int64_t image = tile_number / tiles.per_image();
  const int64_t first = blockIdx.x % planes.walks * planes.channels_each;
  const int64_t end = first + planes.channels_each;
  const int64_t last = end < planes.channels ? end : planes.channels;
  const InputTile tile = find_tile(w, tiles, tile_number % tiles.per_image());
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
  constexpr int walk_reach = reach > 0 ? reach : 1;  // the walk is not used where there is no LRN
  lrn_cuda::BackwardWalk<A, 1, walk_reach, step> lrn_walk;
  if constexpr (reach > 0) lrn_walk.start(first, read_pooled, read_dy, c);

  int buffer = 0;
  for (int64_t channel = first; channel < last; channel += step, buffer ^= kThreads) {
    A grad[step];
    int own_tap[step];
    if constexpr (reach > 0) lrn_walk.take(channel, read_pooled, read_dy, c);
#pragma unroll
    for (int j = 0; j < step; ++j) {
      const int64_t q = channel + j;
      const bool inside = has_window && q < planes.channels;
      own_tap[j] = inside ? tap[window + q * out_plane] : kNoTap;
      if constexpr (reach > 0) {
        grad[j] = lrn_walk.give(j, 0, c);
      } else {
        A one[1];
        read_dy(q, one);
        grad[j] = one[0];
      }
    }
    if constexpr (reach > 0) lrn_walk.move_on();
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

// A block has one tile and `vectors` vectors of V channels; `count` neighbouring blocks share out
// the channels of a tile.
struct ChannelBlocks {
  int64_t channels, count;
  int vectors;
};
// Windows x vectors of a block, which its shared memory has to hold.
constexpr int kSlotVectors = 1600;

// Blocks that an SM must be able to hold, for __launch_bounds__.  Left to itself, ptxas takes
// registers for the pointers into parts until an SM holds two.
template <typename T, typename W, int V, int reach, typename Tensors>
constexpr int kLeastBackwardBlocks =
    Tensors::in_parts && W::fixed && V == 8 && reach > 0 ? 3 : kLeastBlocks<T, W>;

template <typename T, typename W, int V, int reach, typename Tensors = WholeTensors>
__global__ void __launch_bounds__(kThreads, (kLeastBackwardBlocks<T, W, V, reach, Tensors>))
    pool_backward_nhwc(const T* __restrict__ dy, const T* __restrict__ pooled,
                       const uint8_t* __restrict__ tap, T* __restrict__ dx, W w, InputTiling tiles,
                       ChannelBlocks blocks, lrn_cuda::LrnConstants<compute_t<T>> c,
                       Tensors tensors) {
  using A = compute_t<T>;
  using Grads = AlignedVector<T, V>;
  using Taps = AlignedVector<uint8_t, V>;
  CAFFE_COMPAT_SHARED(Grads, grad_memory, kSlotVectors);
  CAFFE_COMPAT_SHARED(Taps, tap_memory, kSlotVectors);
  T* const grads = reinterpret_cast<T*>(grad_memory);
  uint8_t* const taps = reinterpret_cast<uint8_t*>(tap_memory);

  const int64_t tile_number = blockIdx.x / blocks.count;
  const int64_t image = tile_number / tiles.per_image();
  const InputTile tile = find_tile(w, tiles, tile_number % tiles.per_image());
  // A thread keeps its channels; `together` threads with the same channels share out the windows
  // and pixels.
  const int vectors = blocks.vectors, pitch = vectors * V, together = blockDim.x / vectors;
  const int start = threadIdx.x / vectors, at = threadIdx.x % vectors * V;
  const int64_t channel = blockIdx.x % blocks.count * static_cast<int64_t>(pitch) + at;
  const bool busy = start < together && channel < blocks.channels;
  const int windows = busy ? tile.out_rows() * tile.out_columns() : 0;
  [[maybe_unused]] A sums[V] = {};

  for (int p = start; p < windows; p += together) {
    const int i = tile.out_top + p / tile.out_columns();
    const int j = tile.out_left + p % tile.out_columns();
    const int64_t pixel = (image * w.out_height + i) * w.out_width + j;
    const int64_t row = pixel * blocks.channels;
    A grad[V];
    int own_tap[V];
    load_taps<V>(tap + row + channel, own_tap);
    if constexpr (Tensors::in_parts) {
      const PartsRow<T> grads_row{tensors.output_grad, pixel};
      if constexpr (reach > 0) {
        lrn_cuda::gradient_row<V, reach>(grads_row, pooled + row, blocks.channels, channel, grad,
                                         c);
      } else {
        load<V>(channel_at(grads_row, channel), grad);
      }
      // Windows before the tile's first unit count for the tile before it.
      if (i >= tile.unit_top && j >= tile.unit_left) {
#pragma unroll
        for (int v = 0; v < V; ++v) {
          if (own_tap[v] != kNoTap) sums[v] += grad[v];
        }
      }
    } else if constexpr (reach > 0) {
      lrn_cuda::gradient_row<V, reach>(dy + row, pooled + row, blocks.channels, channel, grad, c);
    } else {
      load<V>(dy + row + channel, grad);
    }
    store<V>(grad, grads + p * pitch + at);
    store_taps<V>(own_tap, taps + p * pitch + at);
  }
  ChannelPlace<T> to;
  if constexpr (Tensors::in_parts) {
    CAFFE_COMPAT_SHARED(A, threads_sums, kThreads * V);
    const int64_t first = channel - at;
    write_block_sums<V>(sums, threads_sums, vectors, together, blocks.channels - first,
                        tensors.rows + tile_number * blocks.channels + first);  // a barrier
    to = tensors.input_grad.find(channel);
  } else {
    to = {dx + channel, blocks.channels};
    __syncthreads();
  }

  if (!busy) return;
  const auto put = [&](int h, int column, const A(&sum)[V]) {
    T* const pixel = to.at + ((image * w.height + h) * w.width + column) * to.pitch;
    if constexpr (Tensors::in_parts) {
      store_whole<V>(sum, pixel);
    } else {
      store<V>(sum, pixel);
    }
  };
  gather_tile<V>(grads + at, taps + at, pitch, w, tiles, tile, start, together, put);
}

inline ChannelBlocks make_channel_blocks(const PoolSizes& s, int v) {
  const int64_t windows = ceil_div(s.kernel_h, s.stride_h) * ceil_div(s.kernel_w, s.stride_w);
  const int64_t vectors = s.channels / v,
                most = kSlotVectors / windows < 32 ? kSlotVectors / windows : 32;
  const int64_t blocks = ceil_div(vectors, most), each = ceil_div(vectors, blocks);
  return {s.channels, ceil_div(vectors, each), static_cast<int>(each)};
}

}  // namespace pool_cuda
}  // namespace caffe_compat
