// Brings weights into the order in which gather_gemm copies them, tile by tile, and rounds or
// splits float32 once for all blocks.
//
// For each group, tile of columns and step (four chunks of the depth, DepthOrder): a row for each
// column, of four chunks that lie as shared memory wants them (shared_offset).  Split numbers have
// such a tile of their big parts and then one of the small ones.  Zeros fill up columns and depth.
#pragma once

#include "common/cuda_utils.cuh"
#include "conv/conv.h"
#include "conv/nhwc/gather_sizes.h"
#include "conv/nhwc/warp_accumulators.cuh"

namespace caffe_compat {
namespace nhwc_cuda {

// Distances between elements of a weight (outputs, channels of a group, taps) in memory.
struct WeightStrides {
  int64_t output, channel, tap;

  static WeightStrides contiguous(const ConvSizes& s) { return {s.depth(), s.taps(), 1}; }
  static WeightStrides channels_last(const ConvSizes& s) {
    return {s.depth(), 1, s.group_channels()};
  }
};

// A tile in shared memory: rows of four chunks along the depth, swizzled: a chunk moves within its
// row, so that ldmatrix finds one chunk of eight neighbouring rows in eight different bank groups
// of 16 bytes.  Two rows fill all banks:
//
//     bank group     0 1 2 3   4 5 6 7
//     rows 0 and 1   0 1 2 3 | 0 1 2 3      the numbers are chunks: chunk 0 of the eight
//     rows 2 and 3   1 0 3 2 | 1 0 3 2      rows is found in all eight bank groups, and so
//     rows 4 and 5   2 3 0 1 | 2 3 0 1      are chunks 1, 2 and 3
//     rows 6 and 7   3 2 1 0 | 3 2 1 0
constexpr int kRowChunks = 4, kRowBytes = kRowChunks * kChunkBytes;

__host__ __device__ __forceinline__ int swizzled(int row, int chunk) {
  return chunk ^ ((row >> 1) & 3);
}
__host__ __device__ __forceinline__ int shared_offset(int row, int chunk) {
  return row * kRowBytes + swizzled(row, chunk) * kChunkBytes;
}

// Fragments deal out a warp's columns two by two, so that each lane sums neighbours, which it
// writes together.  Of four fragments:
//
//     columns      0  1  2  3  4  5  6  7    8  9 10 ...
//     fragment     0  0  1  1  2  2  3  3    0  0  1
//     lane % 4     0  0  0  0  0  0  0  0    1  1  1
//
// The tile's row `row` holds this column.
__host__ __device__ __forceinline__ int column_of_row(int row, int fragments) {
  const int fragment = row / 8 % fragments, column = row % 8, warp = row / (8 * fragments);
  return (warp * 4 + column / 2) * 2 * fragments + fragment * 2 + column % 2;
}

struct RepackArguments {
  WeightStrides strides;
  uint32_t group_outputs, group_channels, kernel_w;  // of the weight
  bool rotated;                                      // for the input gradient
  GatherAxis h, w;
  DepthOrder order;
  uint32_t rows, steps, columns, tile_columns, fragments;  // rows: of all tiles of a group
};

template <typename Format>
__global__ void __launch_bounds__(kThreads)
    repack_weights(const typename Format::Element* __restrict__ from,
                   typename Format::Element* __restrict__ to, RepackArguments p, int64_t count) {
  using T = typename Format::Element;
  const int64_t at = global_thread();
  if (at >= count) return;
  // at counts (group, tile, step, row, chunk, element).
  auto rest = static_cast<uint32_t>(at);
  const uint32_t element = rest % Format::kPerChunk;
  const uint32_t chunk = (rest /= Format::kPerChunk) % kRowChunks;
  const uint32_t row = (rest /= kRowChunks) % p.tile_columns;
  const uint32_t step = (rest /= p.tile_columns) % p.steps;
  const uint32_t tile = (rest /= p.steps) % (p.rows / p.tile_columns);
  const uint32_t group = rest / (p.rows / p.tile_columns);

  const uint32_t column =
      tile * p.tile_columns + column_of_row(static_cast<int>(row), static_cast<int>(p.fragments));
  const uint32_t depth = step * kRowChunks + chunk;
  const uint32_t block = depth / (p.order.taps * p.order.width);
  const uint32_t in_block = depth % (p.order.taps * p.order.width);
  const uint32_t channel =
      (block * p.order.width + in_block % p.order.width) * Format::kPerChunk + element;
  const auto tap = static_cast<int32_t>(in_block / p.order.width);
  T value = static_cast<T>(0.f);
  if (column < p.columns && channel < p.order.chunks * Format::kPerChunk) {
    const int64_t kh = p.h.first_tap + tap / p.w.taps * p.h.tap_step;
    const int64_t kw = p.w.first_tap + tap % p.w.taps * p.w.tap_step;
    const int64_t output = group * p.group_outputs + (p.rotated ? channel : column);
    value = from[output * p.strides.output + (p.rotated ? column : channel) * p.strides.channel +
                 (kh * p.kernel_w + kw) * p.strides.tap];
  }
  const int64_t tile_bytes = int64_t{p.tile_columns} * kRowBytes * (Format::kSplit ? 2 : 1);
  char* const place =
      reinterpret_cast<char*>(to) +
      ((static_cast<int64_t>(group) * (p.rows / p.tile_columns) + tile) * p.steps + step) *
          tile_bytes +
      shared_offset(static_cast<int>(row), static_cast<int>(chunk)) + element * sizeof(T);
  if constexpr (Format::kSplit) {
    const float big = round_to_tf32(value);
    *reinterpret_cast<T*>(place) = big;
    *reinterpret_cast<T*>(place + tile_bytes / 2) = round_to_tf32(value - big);
  } else if constexpr (Format::kFloat) {
    *reinterpret_cast<T*>(place) = round_to_tf32(value);
  } else {
    *reinterpret_cast<T*>(place) = value;
  }
}

}  // namespace nhwc_cuda
}  // namespace caffe_compat
