// Output and input gradient of a channels_last convolution: one implicit matrix product.
//
//   y[pixel, o] = sum over taps and channels c of x[pixel under tap, c] * w[o, tap, c]
//
// for each group; the input gradient is such a product of dy, or several (gather_sizes.h).
//
//   rows of the product      pixels of y, 128 or 256 in a tile
//   columns                  outputs of a group, 48 to 128 in a tile, which repack_weights prepares
//   depth                    (channel, tap), 64 bytes of it in a step (DepthOrder)
//
// A block gathers the x under its pixels step by step, through a pipeline of kStages tiles that
// asynchronous copies fill in swizzled shared memory; warps multiply the oldest stage meanwhile:
//
//   step              0   1   2   3   4 ...
//   copied    0 1 2   3   4   5   6   7         tile 4 takes the place of tile 0, 5 that of 1
//   multiplied        0   1   2   3   4
//
// Where the taps lie, relative to the first one, is in a table in shared memory; a pixel keeps the
// place of its first tap and a bit for each row and column of its window that is outside.  A copy
// takes three instructions then: the address, the test of the tap's two bits, and the copy.
#pragma once

#include "common/async_copy.cuh"
#include "conv/nhwc/repack_weights.cuh"

namespace caffe_compat {
namespace nhwc_cuda {

// The tiles.  Split numbers take more registers, so they have smaller ones.
template <bool split, int columns>
struct GatherTile;
template <>
struct GatherTile<false, 128> : WarpGrid<2, 2, 4, 8> {};
template <bool split>
struct GatherTile<split, 96> : WarpGrid<2, 2, 4, 6> {};
template <>
struct GatherTile<true, 64> : WarpGrid<2, 2, 4, 4> {};
template <>
struct GatherTile<false, 64> : WarpGrid<4, 1, 4, 8> {};
template <>
struct GatherTile<true, 48> : WarpGrid<4, 1, 2, 6> {};
template <>
struct GatherTile<false, 48> : WarpGrid<4, 1, 4, 6> {};

// The widest of those that compute the fewest columns beyond the last.
inline int gather_columns(int64_t group_outputs, bool split) {
  int best = split ? 96 : 128;
  for (const int columns : {96, 64, 48}) {
    if (ceil_div(group_outputs, columns) * columns < ceil_div(group_outputs, best) * best) {
      best = columns;
    }
  }
  return best;
}

constexpr int kMostTaps = 16;  // rows or columns of a window: a bit each

// A pixel of y: the pixel of x under its window's first tap, counted over all images (not one of
// its own image where that tap is outside), and a bit for each row of the window, and from
// kMostTaps on for each column, that is outside of x.
struct GatherPixel {
  int32_t first;
  uint32_t outside;

  __device__ GatherPixel(const GatherSizes& g, uint32_t pixel) {
    uint32_t rest, column;
    const auto n = static_cast<int32_t>(g.by_pixels.divmod(pixel, rest));
    const auto row = static_cast<int32_t>(g.by_width.divmod(rest, column));
    const int32_t top = row * g.h.step - g.h.pad;
    const int32_t left = static_cast<int32_t>(column) * g.w.step - g.w.pad;
    first = (n * g.h.size + top) * g.w.size + left;
    outside = outside_bits(g.h, top) | outside_bits(g.w, left) << kMostTaps;
  }
  __device__ GatherPixel()
      : first(0), outside(~0u) {}  // of a row of the tile beyond the last pixel

 private:
  __device__ static uint32_t outside_bits(const GatherAxis& axis, int32_t first) {
    uint32_t bits = 0;
    for (int32_t tap = 0; tap < axis.taps; ++tap, first += axis.dilation) {
      bits |= uint32_t{static_cast<uint32_t>(first) >= static_cast<uint32_t>(axis.size)} << tap;
    }
    return bits;
  }
};

// A tap: how many pixels of x behind the first one, and its bits of `outside`.
struct alignas(8) GatherTap {
  int32_t behind;
  uint32_t bits;

  __device__ GatherTap(const GatherSizes& g, int tap) {
    const int kh = tap / g.w.taps, kw = tap % g.w.taps;
    behind = kh * g.h.dilation * g.w.size + kw * g.w.dilation;
    bits = 1u << kh | 1u << (kMostTaps + kw);
  }
};

// Where a computed pixel lies in y.
__device__ __forceinline__ int64_t place_in_y(const GatherSizes& g, uint32_t pixel) {
  uint32_t rest, column;
  const int64_t n = g.by_pixels.divmod(pixel, rest);
  const int64_t row = g.by_width.divmod(rest, column);
  return (n * g.h.y_size + g.h.y_first + row * g.h.y_step) * g.w.y_size + g.w.y_first +
         static_cast<int64_t>(column) * g.w.y_step;
}

template <typename T>
struct GatherArguments {
  const T *x, *weight, *bias;  // weight: repacked; bias may be null
  T* y;
  bool relu;
  GatherSizes g;
  DepthOrder order;
  int32_t steps, pixel_bytes;  // of x
};

template <typename Format, typename Tile>
struct GatherMemory {
  static constexpr int kBytesA = Tile::kRows * kRowBytes;
  static constexpr int kBytesB = Tile::kColumns * kRowBytes * (Format::kSplit ? 2 : 1);
  static constexpr int kStageBytes = kBytesA + kBytesB;
  static constexpr int kTaps = kStages * kStageBytes;  // where the table of taps begins
  // A step looks up to kRowChunks - 1 entries beyond the last tap before it turns to the first.
  static constexpr int kTableEntries = kMostTaps * kMostTaps + kRowChunks;
  static constexpr int kBytes = kTaps + kTableEntries * static_cast<int>(sizeof(GatherTap));
};

template <typename Format, int columns>
__global__ void __launch_bounds__(kGemmThreads, 2)
    gather_gemm(GatherArguments<typename Format::Element> p) {
  using T = typename Format::Element;
  using Tile = GatherTile<Format::kSplit, columns>;
  using Memory = GatherMemory<Format, Tile>;
  constexpr int kM = Tile::kM, kN = Tile::kN, kPerChunk = Format::kPerChunk;
  constexpr int kStageBytes = Memory::kStageBytes, kTapBytes = sizeof(GatherTap);
  constexpr int kRowsPerCopy = kGemmThreads / kRowChunks, kCopiesA = Tile::kRows / kRowsPerCopy;
  constexpr int kBytesPerCopy = kGemmThreads * kChunkBytes;
  constexpr int kMiddleB = 2048;  // an instruction reaches as far back, and one less ahead
  CAFFE_COMPAT_DYNAMIC_SHARED(shared);

  const GatherSizes& g = p.g;
  const uint32_t first_pixel = blockIdx.x * Tile::kRows;
  const int first_column = blockIdx.y * columns, group = blockIdx.z;
  const int taps = p.order.taps, taps_of_step = kRowChunks / p.order.width;
  for (int tap = threadIdx.x; tap < taps; tap += kGemmThreads) {
    reinterpret_cast<GatherTap*>(shared + Memory::kTaps)[tap] = GatherTap(g, tap);
  }
  // A pixel is worked out by one thread for the four that copy its chunks, in the place of a stage
  // that is filled later.
  auto* const rows = reinterpret_cast<GatherPixel*>(shared);
  for (int row = threadIdx.x; row < Tile::kRows; row += kGemmThreads) {
    const uint32_t pixel = first_pixel + row;
    rows[row] = pixel < g.pixels ? GatherPixel(g, pixel) : GatherPixel();
  }
  __syncthreads();

  // What this thread copies: the chunk of some rows of A that lies at `offset` in the first of
  // them, and chunks of B.
  int offset = static_cast<int>(threadIdx.x) * kChunkBytes;
  keep(offset);
  const int copy_row = threadIdx.x / kRowChunks;
  const int copy_chunk = swizzled(copy_row, threadIdx.x % kRowChunks);
  const int first_tap = copy_chunk / p.order.width, channel_chunk = copy_chunk % p.order.width;
  auto x =
      reinterpret_cast<const char*>(p.x + group * g.group_channels + channel_chunk * kPerChunk);
  int32_t first[kCopiesA];
  uint32_t outside[kCopiesA];
#pragma unroll
  for (int i = 0; i < kCopiesA; ++i) {
    const GatherPixel& row = rows[copy_row + i * kRowsPerCopy];
    first[i] = row.first;
    outside[i] = row.outside;
    keep(first[i]);
    keep(outside[i]);
  }
  __syncthreads();
  const char* weight =
      reinterpret_cast<const char*>(p.weight) +
      (static_cast<int64_t>(group) * gridDim.y + blockIdx.y) * p.steps * Memory::kBytesB + offset +
      kMiddleB;
  keep(weight);

  // Steps are fetched up to `end`, kStages - 1 ahead of those that are multiplied.  No taps, no
  // steps: there y is the bias.
  const int end = p.steps > 0 ? p.steps + kStages - 1 : 0;
  int step = 0, next_stage = 0, weight_bytes = Memory::kBytesB;
  // A step's chunks take taps that follow each other, and behind the last tap the first one of the
  // next channels.  The loops below run to the step `next_turn` before which a chunk gets there,
  // and need not look for it.  turn_tap: the tap of chunk 0 in that step.
  const int taps_bytes = taps * kTapBytes;
  int next_tap = Memory::kTaps + first_tap * kTapBytes,
      blocks_left = p.order.chunks / p.order.width;
  int next_turn = 0, turn_tap = 0;
  const char* under_tap = x;
  uint32_t tap_bits = 0;
  const auto find_tap = [&] {
    const GatherTap tap = *reinterpret_cast<const GatherTap*>(shared + next_tap);
    under_tap = advanced(x, tap.behind, p.pixel_bytes);
    tap_bits = tap.bits;
  };
  const auto turn = [&] {
    while (next_tap >= Memory::kTaps + taps_bytes) {
      next_tap -= taps_bytes;
      x += p.order.width * kChunkBytes;
      --blocks_left;
    }
    if (blocks_left <= 0) {  // beyond the last channels: zeros
#pragma unroll
      for (int i = 0; i < kCopiesA; ++i) outside[i] = ~0u;
    }
    if (step >= p.steps) weight_bytes = 0;  // weights that nobody reads
    find_tap();
    const uint32_t whole_steps =
        static_cast<uint32_t>((taps - turn_tap) * p.order.width) / kRowChunks;
    const int steps = whole_steps > 0 ? static_cast<int>(whole_steps) : 1;
    turn_tap += steps * taps_of_step;
    while (turn_tap >= taps) turn_tap -= taps;
    next_turn = next_turn + steps < end ? next_turn + steps : end;
  };
  const auto fetch = [&] {
    char* const stage = shared + next_stage + offset;
    next_stage += kStageBytes;
    if constexpr ((kStageBytes & (kStageBytes - 1)) == 0) {
      next_stage &= kStages * kStageBytes - 1;
    } else {
      next_stage = next_stage == kStages * kStageBytes ? 0 : next_stage;
    }
#pragma unroll
    for (int i = 0; i < kCopiesA; ++i) {
      copy_16_bytes_again(stage + i * kBytesPerCopy, advanced(under_tap, first[i], p.pixel_bytes),
                          (outside[i] & tap_bits) == 0);
    }
    const char* const weights = advanced(weight, step, weight_bytes);
#pragma unroll
    for (int at = 0; at < Memory::kBytesB; at += kBytesPerCopy) {
      if (at + kBytesPerCopy <= Memory::kBytesB || offset < Memory::kBytesB - at) {
        copy_16_bytes(stage + Memory::kBytesA + at, weights + at - kMiddleB, true);
      }
    }
    commit_copies();
    ++step;
    next_tap += taps_of_step * kTapBytes;
    keep(step);  // else the loop carries the values before them as well, for what follows it
    keep(next_tap);
    keep(next_stage);
    find_tap();
  };

  // Where this lane reads, in either half of the depth.  Whole groups of 8 rows further on the
  // swizzle is the same, so those distances are constants.
  const int lane = threadIdx.x % 32;
  int read_a[2], read_b[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    read_a[half] = shared_offset(Tile::first_row() + lane % 16, half * 2 + lane / 16);
    read_b[half] = Memory::kBytesA + shared_offset(Tile::first_column() + lane / 16 * 8 + lane % 8,
                                                   half * 2 + lane / 8 % 2);
    keep(read_a[half]);
    keep(read_b[half]);
  }

  WarpAccumulators<Format, kM, kN> sums;
  if (p.steps > 0) {
    turn();
#pragma unroll 1
    while (step < kStages - 1) {
      fetch();
      if (step == next_turn) turn();
    }
  }
#pragma unroll 1
  while (step < end) {
#pragma unroll 1
    do {
      wait_for_copies<kStages - 2>();
      // The oldest stage has arrived for everybody, and everybody has multiplied the one before it,
      // which is filled next.
      __syncthreads();
      fetch();
      const char* const stage = shared + next_stage;  // the oldest: next to be filled
      const auto load_b = [&](int half, int place, FragmentB(&b)[kN]) {
#pragma unroll
        for (int j = 0; j < kN; j += 2) {
          uint32_t words[4];
          load_matrices<false>(stage + read_b[half] + place + j * 8 * kRowBytes, words);
          b[j] = {words[0], words[1]};
          b[j + 1] = {words[2], words[3]};
        }
      };
      const auto load_a = [&](int half, int i, FragmentA(&a)[2]) {
#pragma unroll
        for (int part = 0; part < 2; ++part) {
          load_matrices<false>(stage + read_a[half] + (i + part) * 16 * kRowBytes, a[part].words);
          if constexpr (Format::kFloat && !Format::kSplit) round(a[part].words);
        }
      };
      if constexpr (Format::kSplit) {
        sums.add_stage(load_a, [&](int half, FragmentB(&b)[kN], FragmentB(&small)[kN]) {
          load_b(half, 0, b);
          load_b(half, Memory::kBytesB / 2, small);
        });
      } else {
        sums.add_stage(load_a, [&](int half, FragmentB(&b)[kN]) { load_b(half, 0, b); });
      }
    } while (step < next_turn);
    turn();
  }
  wait_for_copies<0>();

  constexpr int kLaneColumns = 2 * kN;  // neighbours
  constexpr int kVector = kLaneColumns % kPerChunk == 0 ? kPerChunk : kPerChunk / 2;
  const int column = first_column + Tile::first_column() + lane % 4 * kLaneColumns;
  const int64_t output = static_cast<int64_t>(group) * g.group_outputs + column;
  float bias[kLaneColumns] = {};
  if (p.bias != nullptr) {
#pragma unroll
    for (int v = 0; v < kLaneColumns; ++v) {
      if (column + v < g.group_outputs) bias[v] = static_cast<float>(p.bias[output + v]);
    }
  }
#pragma unroll
  for (int i = 0; i < kM; ++i) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const uint32_t pixel = first_pixel + Tile::first_row() + i * 16 + half * 8 + lane / 4;
      if (pixel >= g.pixels) continue;
      T* const y = p.y + place_in_y(g, pixel) * g.outputs + output;
#pragma unroll
      for (int first = 0; first < kLaneColumns; first += kVector) {
        if (column + first >= g.group_outputs) continue;
        float values[kVector];
#pragma unroll
        for (int v = 0; v < kVector; ++v) {
          const int at = first + v;
          const float sum = sums.sums[i][at / 2].values[half * 2 + at % 2] + bias[at];
          values[v] = p.relu && sum < 0 ? 0.f : sum;
        }
        store<kVector>(values, y + first);
      }
    }
  }
}

// How much the repacked weights of one product take, in elements.
template <typename Format>
int64_t repacked_count(const GatherSizes& g) {
  const int64_t columns = gather_columns(g.group_outputs, Format::kSplit);
  return g.groups * ceil_div(g.group_outputs, columns) * columns *
         DepthOrder(g, Format::kPerChunk).steps() * kRowChunks * Format::kPerChunk *
         (Format::kSplit ? 2 : 1);
}

// The weight's side of a product.
template <typename T>
struct WeightSource {
  const T* weight;
  WeightStrides strides;
  T* repacked;  // workspace
  uint32_t group_outputs, group_channels, kernel_w;
  bool rotated;  // for the input gradient
};

template <typename Format, int columns>
void launch_gather(GatherArguments<typename Format::Element> p,
                   const WeightSource<typename Format::Element>& source, cudaStream_t stream) {
  using Tile = GatherTile<Format::kSplit, columns>;
  const int64_t tiles = ceil_div(p.g.group_outputs, columns);
  const int64_t count = repacked_count<Format>(p.g) / (Format::kSplit ? 2 : 1);
  if (count > 0) {
    const RepackArguments r = {.strides = source.strides,
                               .group_outputs = source.group_outputs,
                               .group_channels = source.group_channels,
                               .kernel_w = source.kernel_w,
                               .rotated = source.rotated,
                               .h = p.g.h,
                               .w = p.g.w,
                               .order = p.order,
                               .rows = static_cast<uint32_t>(tiles * columns),
                               .steps = static_cast<uint32_t>(p.steps),
                               .columns = static_cast<uint32_t>(p.g.group_outputs),
                               .tile_columns = columns,
                               .fragments = Tile::kN};
    auto repack = repack_weights<Format>;
    CAFFE_COMPAT_LAUNCH(repack, blocks_for(count), kThreads, stream, source.weight, source.repacked,
                        r, count);
  }
  const dim3 grid(static_cast<unsigned>(ceil_div(p.g.pixels, Tile::kRows)),
                  static_cast<unsigned>(tiles), static_cast<unsigned>(p.g.groups));
  auto kernel = gather_gemm<Format, columns>;
  constexpr int kBytes = GatherMemory<Format, Tile>::kBytes;
  CAFFE_COMPAT_LAUNCH_DYNAMIC(kernel, grid, kGemmThreads, kBytes, stream, p);
}

template <typename Format>
void launch_fitting_gather(const GatherSizes& g, const typename Format::Element* x,
                           const WeightSource<typename Format::Element>& source,
                           const typename Format::Element* bias, typename Format::Element* y,
                           bool relu, cudaStream_t stream) {
  if (g.pixels == 0) return;
  const DepthOrder order(g, Format::kPerChunk);
  const GatherArguments<typename Format::Element> p = {
      .x = x,
      .weight = source.repacked,
      .bias = bias,
      .y = y,
      .relu = relu,
      .g = g,
      .order = order,
      .steps = static_cast<int32_t>(order.steps()),
      .pixel_bytes = static_cast<int32_t>(g.channels * sizeof(typename Format::Element))};
  const int columns = gather_columns(g.group_outputs, Format::kSplit);
  if constexpr (!Format::kSplit) {
    if (columns == 128) return launch_gather<Format, 128>(p, source, stream);
  }
  if (columns == 96) {
    launch_gather<Format, 96>(p, source, stream);
  } else if (columns == 64) {
    launch_gather<Format, 64>(p, source, stream);
  } else {
    launch_gather<Format, 48>(p, source, stream);
  }
}

}  // namespace nhwc_cuda
}  // namespace caffe_compat
