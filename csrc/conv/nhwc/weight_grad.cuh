// Weight gradient of a channels_last convolution.
//
//   dw[o, tap, c] = sum over pixels of dy[pixel, o] * x[pixel under tap, c]
//
// for each group: rows of the product are outputs, columns are (tap, channel), the depth is the
// pixels.  It is a split-K product: for each tile of dw several blocks share the pixels out, and a
// second pass (reduce_split_k_nhwc) adds what they found in the order of the pixels.  Tiles lie in
// shared memory as in global memory, pixel by pixel, and are transposed when they are read.
//
// Where a pixel of y has its window in x, and which taps of it are outside, is worked out once for
// kGemmThreads pixels at a time and kept in a table in shared memory; a copy takes three
// instructions then: the address, the test of its tap's bit, and the copy.
#pragma once

#include <algorithm>

#include "common/async_copy.cuh"
#include "conv/conv.h"
#include "conv/divider.cuh"
#include "conv/nhwc/warp_accumulators.cuh"

namespace caffe_compat {
namespace nhwc_cuda {

// The tiles, by their rows.  TF32 rounds both operands, (4 kM + 2 kN) / (kM kN) instructions an
// MMA: 1 for 4 x 8 and 6 x 6 fragments, but 1.33 for 6 x 4, which are enough for the others.
template <typename Format, int rows>
struct WeightGradTile;
template <typename T>
struct WeightGradTile<NumberFormat<T, true>, 128> : WarpGrid<2, 2, 4, 4> {};
template <typename T>
struct WeightGradTile<NumberFormat<T, false>, 128> : WarpGrid<2, 2, 4, 8> {};
template <typename T, bool split>
struct WeightGradTile<NumberFormat<T, split>, 96> : WarpGrid<1, 4, 6, 4> {};
template <>
struct WeightGradTile<NumberFormat<float, false>, 96> : WarpGrid<1, 4, 6, 6> {};
template <typename T>
struct WeightGradTile<NumberFormat<T, true>, 64> : WarpGrid<1, 4, 4, 4> {};
template <typename T>
struct WeightGradTile<NumberFormat<T, false>, 64> : WarpGrid<1, 4, 4, 8> {};

template <typename Format>
int weight_grad_columns(int rows) {
  if (rows == 64) return WeightGradTile<Format, 64>::kColumns;
  if (rows == 96) return WeightGradTile<Format, 96>::kColumns;
  return WeightGradTile<Format, 128>::kColumns;
}

constexpr int kMostTapsOfTile = 32;  // a bit each: those of 128 columns, four channels a tap

// Of the tiles of 128, 96 and 64 rows the one that computes the fewest beyond the last.
template <typename Format>
int weight_grad_rows(const ConvSizes& s) {
  int best = 128;
  for (const int rows : {96, 64}) {
    if (weight_grad_columns<Format>(rows) > kMostTapsOfTile * s.group_channels()) continue;
    if (ceil_div(s.group_outputs(), rows) * rows < ceil_div(s.group_outputs(), best) * best) {
      best = rows;
    }
  }
  return best;
}

// How the pixels are shared out: so that the blocks fill a large GPU a whole number of times as
// nearly as can be (10 tiles in 27 splits take it three times, in 28 four times), none shorter than
// kLeastSplitPixels.  A function of the sizes only, so that the order of the sum, and with it
// the result, is the same on every GPU.
constexpr int64_t kLeastSplitPixels = 512, kMostTurns = 4;
struct SplitK {
  int64_t count = 1, pixels;  // splits, and pixels of each but the last

  static constexpr int64_t kSplitStep = 32;  // whole steps of the kernel

  SplitK(const ConvSizes& s, int rows, int columns) {  // of a tile
    const int64_t all = s.batch * s.out_pixels();
    const int64_t tiles =
        ceil_div(s.group_outputs(), rows) * ceil_div(s.depth(), columns) * s.groups;
    const int64_t most = std::min(ceil_div(all, kLeastSplitPixels), kMostGridYZ / s.groups);
    const auto turns = [&](int64_t splits) { return ceil_div(tiles * splits, kFullGridBlocks); };
    for (int64_t turn = 1; turn <= kMostTurns; ++turn) {
      const int64_t splits = std::min(kFullGridBlocks * turn / std::max<int64_t>(tiles, 1), most);
      // Time goes with turns / splits.
      if (splits > count && turns(splits) * count < turns(count) * splits) count = splits;
    }
    pixels = ceil_div(ceil_div(all, count), kSplitStep) * kSplitStep;
    count = std::max<int64_t>(ceil_div(all, std::max<int64_t>(pixels, 1)), 1);
  }
};

template <typename Format>
SplitK split_k(const ConvSizes& s) {
  const int rows = weight_grad_rows<Format>(s);
  return {s, rows, weight_grad_columns<Format>(rows)};
}

template <typename T>
struct WeightGradArguments {
  const T *dy, *x;
  float* partial;  // (split, output, tap, channel of the group)
  int64_t outputs;
  int32_t pixel_bytes_x, pixel_bytes_dy;                   // of all groups
  int32_t groups, group_channels, group_outputs, columns;  // columns: taps * group_channels
  int32_t height, width, kernel_w, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w;
  uint32_t pixels, split_pixels;
  conv_cuda::Divider by_out_pixels, by_out_width, by_kernel_w, by_group_channels;

  WeightGradArguments(const T* dy, const T* x, float* partial, const ConvSizes& s,
                      const SplitK& split_k)
      : dy(dy),
        x(x),
        partial(partial),
        outputs(s.outputs),
        pixel_bytes_x(static_cast<int32_t>(s.channels * sizeof(T))),
        pixel_bytes_dy(static_cast<int32_t>(s.outputs * sizeof(T))),
        groups(static_cast<int32_t>(s.groups)),
        group_channels(static_cast<int32_t>(s.group_channels())),
        group_outputs(static_cast<int32_t>(s.group_outputs())),
        columns(static_cast<int32_t>(s.depth())),
        height(static_cast<int32_t>(s.height)),
        width(static_cast<int32_t>(s.width)),
        kernel_w(static_cast<int32_t>(s.kernel_w)),
        stride_h(static_cast<int32_t>(s.stride_h)),
        stride_w(static_cast<int32_t>(s.stride_w)),
        pad_h(static_cast<int32_t>(s.pad_h)),
        pad_w(static_cast<int32_t>(s.pad_w)),
        dilation_h(static_cast<int32_t>(s.dilation_h)),
        dilation_w(static_cast<int32_t>(s.dilation_w)),
        pixels(static_cast<uint32_t>(s.batch * s.out_pixels())),
        split_pixels(static_cast<uint32_t>(split_k.pixels)),
        by_out_pixels(s.out_pixels()),
        by_out_width(s.out_width),
        by_kernel_w(s.kernel_w),
        by_group_channels(s.group_channels()) {}
};

// Pixels of a stage: two fragments deep.
template <typename Format>
constexpr int kStagePixels = Format::kFloat ? 16 : 32;

// A stage in shared memory: pixels of `rows` numbers of dy and `columns` of x, swizzled: a chunk
// moves within its pixel so that what is read together lies in different banks.  Eight bank groups
// of 16 bytes, and the chunk that each holds (of a pixel's first eight; the next eight likewise):
//
//     16-bit types: ldmatrix reads          float32: eight lanes read
//     one chunk of 8 pixels                 two chunks of 4 pixels
//
//     bank group  0 1 2 3 4 5 6 7           bank group  0 1 2 3 4 5 6 7
//     pixel 0     0 1 2 3 4 5 6 7           pixel 0     0 1 2 3 4 5 6 7
//     pixel 1     1 0 3 2 5 4 7 6           pixel 1     2 3 0 1 6 7 4 5
//     pixel 2     2 3 0 1 6 7 4 5           pixel 2     4 5 6 7 0 1 2 3
//     pixel 3     3 2 1 0 7 6 5 4           pixel 3     6 7 4 5 2 3 0 1
//       ...                                 pixel 4     as pixel 0
//     pixel 7     7 6 5 4 3 2 1 0
//
// A pixel's chunks of B stand behind those of A, which are filled up to whole groups of eight.
template <typename Format, int rows, int columns>
struct SharedPixels {
  static constexpr int kChunksA = rows / Format::kPerChunk, kChunksB = columns / Format::kPerChunk;
  static constexpr int kFirstB = (kChunksA + 7) / 8 * 8;
  static constexpr int kPitch = (kFirstB + (kChunksB + 7) / 8 * 8) * kChunkBytes;  // of a pixel
  static constexpr int kBytes = kStagePixels<Format> * kPitch;

  __device__ __forceinline__ static int shared_offset(int pixel, int chunk) {
    const int swizzle = Format::kFloat ? pixel % 4 * 2 : pixel % 8;
    return pixel * kPitch + (chunk ^ swizzle) * kChunkBytes;
  }
};

// Where a pixel of y finds its window: the pixel of x under its first tap, counted over all images
// (not one of its own image where that tap is outside), and a bit for each tap that is inside.
struct alignas(8) WindowEntry {
  int32_t first;
  uint32_t inside;
};

constexpr int kEntryBytes = sizeof(WindowEntry);

template <typename T>
__device__ __forceinline__ WindowEntry window_entry(const WeightGradArguments<T>& p, uint32_t pixel,
                                                    int32_t first_tap, int taps) {
  keep(first_tap);  // divided here, where it is rare, rather than kept in two registers
  uint32_t first_kw, rest, out_column;
  auto kh = static_cast<int32_t>(p.by_kernel_w.divmod(first_tap, first_kw));
  auto kw = static_cast<int32_t>(first_kw);
  const int32_t n = static_cast<int32_t>(p.by_out_pixels.divmod(pixel, rest));
  const int32_t out_row = static_cast<int32_t>(p.by_out_width.divmod(rest, out_column));
  const int32_t top = out_row * p.stride_h - p.pad_h;
  const int32_t left = static_cast<int32_t>(out_column) * p.stride_w - p.pad_w;
  WindowEntry entry = {.first = (n * p.height + top) * p.width + left, .inside = 0};
  for (int tap = 0; tap < taps; ++tap) {
    const auto row = static_cast<uint32_t>(top + kh * p.dilation_h);
    const auto column = static_cast<uint32_t>(left + kw * p.dilation_w);
    const bool inside =
        row < static_cast<uint32_t>(p.height) && column < static_cast<uint32_t>(p.width);
    entry.inside |= uint32_t{inside} << tap;
    if (++kw == p.kernel_w) kw = 0, ++kh;
  }
  return entry;
}

// Two parts: one is read while the other is filled.  A step looks beyond them before it turns.
template <typename Format>
constexpr int kTableEntries = 2 * kGemmThreads + kStagePixels<Format>;

template <typename Format, int rows>
using WeightGradPixels = SharedPixels<Format, rows, WeightGradTile<Format, rows>::kColumns>;
template <typename Format, int rows>
constexpr int kWeightGradBytes =
    kStages * WeightGradPixels<Format, rows>::kBytes + kTableEntries<Format> * kEntryBytes;

template <typename Format, int rows>
__global__ void __launch_bounds__(kGemmThreads, 2)
    weight_grad_gemm(WeightGradArguments<typename Format::Element> p) {
  using T = typename Format::Element;
  using Tile = WeightGradTile<Format, rows>;
  using Pixels = WeightGradPixels<Format, rows>;
  constexpr int kM = Tile::kM, kN = Tile::kN, kPerChunk = Format::kPerChunk;
  constexpr int kDepth = kStagePixels<Format>, kStageBytes = Pixels::kBytes;
  constexpr int kLanesPerPixel = kGemmThreads / kDepth;  // which copy a pixel's chunks in turn
  constexpr int kCopiesA = Pixels::kChunksA / kLanesPerPixel;
  constexpr int kCopiesB = Pixels::kChunksB / kLanesPerPixel;
  static_assert(Pixels::kChunksA % kLanesPerPixel == 0 && Pixels::kChunksB % kLanesPerPixel == 0);
  constexpr int kTurnSteps = kGemmThreads / kDepth;  // of a part of the table
  static_assert(kTurnSteps >= kStages);
  CAFFE_COMPAT_DYNAMIC_SHARED(shared);
  auto* const table = reinterpret_cast<WindowEntry*>(shared + kStages * kStageBytes);

  const int first_column = blockIdx.x * Tile::kColumns, first_row = blockIdx.y * rows;
  const int group = blockIdx.z % p.groups;
  const int64_t split_number = blockIdx.z / p.groups;
  const uint32_t first_pixel = static_cast<uint32_t>(split_number) * p.split_pixels;
  const uint32_t last_pixel =
      p.pixels - first_pixel < p.split_pixels ? p.pixels : first_pixel + p.split_pixels;

  // The taps of this tile's columns, kMostTapsOfTile at most.
  const int end_column =
      first_column + Tile::kColumns < p.columns ? first_column + Tile::kColumns : p.columns;
  const auto first_tap = static_cast<int32_t>(p.by_group_channels.quotient(first_column));
  const int taps =
      static_cast<int32_t>(p.by_group_channels.quotient(end_column - 1)) - first_tap + 1;
  const int pixels = static_cast<int>(last_pixel - first_pixel);
  // Steps are fetched up to `end`, kStages - 1 ahead of those that are multiplied.
  const int end = (pixels + kDepth - 1) / kDepth + kStages - 1;
  int step = 0;
  // Makes the entries of a part, of pixels from `first` on.
  const auto refill = [&](int part, int first) {
    const int pixel = first + static_cast<int>(threadIdx.x);
    WindowEntry entry = {};
    if (pixel < pixels) entry = window_entry(p, first_pixel + pixel, first_tap, taps);
    table[part * kGemmThreads + threadIdx.x] = entry;
  };

  // What this thread copies of a stage: some chunks of one pixel.
  const int copy_pixel = threadIdx.x / kLanesPerPixel, copy_chunk = threadIdx.x % kLanesPerPixel;
  const int row = first_row + copy_chunk * kPerChunk;
  const char* dy =
      reinterpret_cast<const char*>(p.dy + static_cast<int64_t>(group) * p.group_outputs + row) +
      static_cast<int64_t>(first_pixel + copy_pixel) * p.pixel_bytes_dy;
  int rows_left = p.group_outputs - row, rows_here = 0;
  keep(rows_left);
  const char* x[kCopiesB];
  uint32_t tap_bit[kCopiesB];
#pragma unroll
  for (int i = 0; i < kCopiesB; ++i) {
    const int column = first_column + (copy_chunk + i * kLanesPerPixel) * kPerChunk;
    uint32_t channel, kw;
    const uint32_t tap = p.by_group_channels.divmod(column, channel);
    const uint32_t kh = p.by_kernel_w.divmod(tap, kw);
    x[i] = advanced(reinterpret_cast<const char*>(
                        p.x + static_cast<int64_t>(group) * p.group_channels + channel),
                    kh * p.dilation_h * p.width + kw * p.dilation_w, p.pixel_bytes_x);
    keep(x[i]);
    tap_bit[i] = column < p.columns ? uint32_t{1} << (tap - first_tap) : 0;
    keep(tap_bit[i]);
  }
  int pixel_bytes_x = p.pixel_bytes_x, step_bytes_dy = p.pixel_bytes_dy * kDepth;
  keep(dy);
  keep(pixel_bytes_x);
  keep(step_bytes_dy);
  // Whole groups of 8 chunks further on the swizzle is the same.
  constexpr int kOffsets = 8 / kLanesPerPixel;
  int offset[kOffsets];
#pragma unroll
  for (int i = 0; i < kOffsets; ++i) {
    offset[i] = Pixels::shared_offset(copy_pixel, copy_chunk + i * kLanesPerPixel);
    keep(offset[i]);
  }

  int next_stage = 0, next_turn = 0;
  int next_entry = kStages * kStageBytes + copy_pixel * kEntryBytes;
  WindowEntry window;
  const auto find_window = [&] {
    window = *reinterpret_cast<const WindowEntry*>(shared + next_entry);
  };
  // The loops below run to the step `next_turn` before which something changes: the pixels end, or
  // a part of the table does, whose entries everybody has read before the last barrier.
  const auto turn = [&] {
    const int done = step % kTurnSteps, left = pixels - step * kDepth;
    if (done == 0) {
      const int part = step / kTurnSteps % 2;
      refill(1 - part, step * kDepth + kGemmThreads);
      if (part == 0 && step > 0) next_entry -= 2 * kGemmThreads * kEntryBytes;
    }
    find_window();
    rows_here = copy_pixel < left ? rows_left : 0;
    int steps = left < kDepth ? 1 : left / kDepth;
    if (steps > kTurnSteps - done) steps = kTurnSteps - done;
    next_turn = step + steps < end ? step + steps : end;
  };
  // Beyond the last step it copies zeros that nobody reads.
  const auto fetch = [&] {
    char* const stage = shared + next_stage;
    next_stage += kStageBytes;
    if constexpr ((kStageBytes & (kStageBytes - 1)) == 0) {
      next_stage &= kStages * kStageBytes - 1;
    } else {
      next_stage = next_stage == kStages * kStageBytes ? 0 : next_stage;
    }
    const char* const rows_from = advanced(dy, step, step_bytes_dy);
#pragma unroll
    for (int i = 0; i < kCopiesA; ++i) {
      copy_16_bytes(stage + offset[i % kOffsets] + i / kOffsets * 8 * kChunkBytes,
                    rows_from + i * kLanesPerPixel * kChunkBytes,
                    i * kLanesPerPixel * kPerChunk < rows_here);
    }
#pragma unroll
    for (int i = 0; i < kCopiesB; ++i) {
      copy_16_bytes_again(
          stage + offset[i % kOffsets] + (Pixels::kFirstB + i / kOffsets * 8) * kChunkBytes,
          advanced(x[i], window.first, pixel_bytes_x), (window.inside & tap_bit[i]) != 0);
    }
    commit_copies();
    ++step;
    next_entry += kDepth * kEntryBytes;
    keep(step);  // else the loop carries the values before them as well, for what follows it
    keep(next_entry);
    keep(next_stage);
    find_window();
  };

  refill(0, 0);
  __syncthreads();
  // Where this lane reads.  Whole groups of 8 chunks, and of 8 pixels (float32: 4), further on, the
  // swizzle is the same, so those distances are constants.
  const int lane = threadIdx.x % 32;
  constexpr int kReads = Format::kFloat ? 1 : 4;
  int read_a[kReads], read_b[kReads];
#pragma unroll
  for (int i = 0; i < kReads; ++i) {
    const int chunk_a = Tile::first_row() / kPerChunk;
    const int chunk_b = Pixels::kFirstB + Tile::first_column() / kPerChunk;
    if constexpr (Format::kFloat) {
      read_a[i] = Pixels::shared_offset(lane % 4, chunk_a + lane / 4);
      read_b[i] = Pixels::shared_offset(lane % 4, chunk_b + lane / 4);
    } else {
      read_a[i] = Pixels::shared_offset(lane % 8 + lane / 16 * 8, chunk_a + i * 2 + lane / 8 % 2);
      read_b[i] = Pixels::shared_offset(lane % 16, chunk_b + i * 2 + lane / 16);
    }
    keep(read_a[i]);
    keep(read_b[i]);
  }

  // Of six fragments the last two have half a chunk for each lane.
  int read_rest = 0;
  if constexpr (kN % 4 != 0) {
    const int chunk_b = Pixels::kFirstB + (Tile::first_column() + kN / 4 * 32) / kPerChunk;
    read_rest = Pixels::shared_offset(lane % 4, chunk_b + lane / 8) + lane / 4 % 2 * 8;
    keep(read_rest);
  }

  WarpAccumulators<Format, kM, kN> sums;
  turn();
#pragma unroll 1
  while (step < kStages - 1) {
    fetch();
    if (step == next_turn) turn();
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
      if constexpr (Format::kFloat) {
        // Column `lane / 4` of fragments 4 j to 4 j + 3 is the same chunk: columns of the product
        // are dealt out to fragments one by one, rows to fragments two by two.
        const auto load_b = [&](int half, FragmentB(&b)[kN]) {
#pragma unroll
          for (int j = 0; j + 4 <= kN; j += 4) {
#pragma unroll
            for (int w = 0; w < 2; ++w) {
              uint32_t words[4];
              load_16_bytes(
                  stage + read_b[0] + (half * 8 + w * 4) * Pixels::kPitch + j * 2 * kChunkBytes,
                  words);
#pragma unroll
              for (int v = 0; v < 4; ++v) b[j + v].words[w] = words[v];
            }
          }
          if constexpr (kN % 4 != 0) {
            static_assert(kN % 4 == 2);
#pragma unroll
            for (int w = 0; w < 2; ++w) {
              uint32_t words[2];
              load_8_bytes(stage + read_rest + (half * 8 + w * 4) * Pixels::kPitch, words);
              b[kN - 2].words[w] = words[0];
              b[kN - 1].words[w] = words[1];
            }
          }
        };
        const auto load_a = [&](int half, int i, FragmentA(&a)[2]) {
#pragma unroll
          for (int w = 0; w < 2; ++w) {
            uint32_t words[4];
            load_16_bytes(
                stage + read_a[0] + (half * 8 + w * 4) * Pixels::kPitch + i * 4 * kChunkBytes,
                words);
#pragma unroll
            for (int v = 0; v < 4; ++v) a[v / 2].words[w * 2 + v % 2] = words[v];
          }
        };
        if constexpr (Format::kSplit) {
          sums.add_stage(load_a, [&](int half, FragmentB(&b)[kN], FragmentB(&small)[kN]) {
            load_b(half, b);
#pragma unroll
            for (int j = 0; j < kN; ++j) split(b[j].words, small[j].words);
          });
        } else {
          sums.add_stage(
              [&](int half, int i, FragmentA(&a)[2]) {
                load_a(half, i, a);
#pragma unroll
                for (int part = 0; part < 2; ++part) round(a[part].words);
              },
              [&](int half, FragmentB(&b)[kN]) {
                load_b(half, b);
#pragma unroll
                for (int j = 0; j < kN; ++j) round(b[j].words);
              });
        }
      } else {
        sums.add_stage(
            [&](int half, int i, FragmentA(&a)[2]) {
#pragma unroll
              for (int part = 0; part < 2; ++part) {
                load_matrices<true>(stage + read_a[(i + part) % 4] + half * 16 * Pixels::kPitch +
                                        (i + part) / 4 * 8 * kChunkBytes,
                                    a[part].words);
              }
            },
            [&](int half, FragmentB(&b)[kN]) {
#pragma unroll
              for (int j = 0; j < kN; j += 2) {
                uint32_t words[4];
                load_matrices<true>(stage + read_b[j / 2 % 4] + half * 16 * Pixels::kPitch +
                                        j / 8 * 8 * kChunkBytes,
                                    words);
                b[j] = {words[0], words[1]};
                b[j + 1] = {words[2], words[3]};
              }
            });
      }
    } while (step < next_turn);
    turn();
  }
  wait_for_copies<0>();

#pragma unroll
  for (int i = 0; i < kM; ++i) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int fragment_row = Format::kFloat ? i / 2 * 32 + lane / 4 * 4 + i % 2 * 2 + half
                                              : i * 16 + half * 8 + lane / 4;
      const int m = first_row + Tile::first_row() + fragment_row;
      if (m >= p.group_outputs) continue;
      float* const line = p.partial + (split_number * p.outputs +
                                       static_cast<int64_t>(group) * p.group_outputs + m) *
                                          p.columns;
      if constexpr (Format::kFloat) {
#pragma unroll
        for (int j = 0; j + 4 <= kN; j += 4) {
#pragma unroll
          for (int c = 0; c < 2; ++c) {
            const int n = first_column + Tile::first_column() + j * 8 + lane % 4 * 8 + c * 4;
            if (n >= p.columns) continue;
            float four[4];
#pragma unroll
            for (int v = 0; v < 4; ++v) four[v] = sums.sums[i][j + v].values[half * 2 + c];
            store<4>(four, line + n);
          }
        }
        if constexpr (kN % 4 != 0) {
          const int n = first_column + Tile::first_column() + kN / 4 * 32 + lane % 4 * 4;
          if (n >= p.columns) continue;
          float four[4];
#pragma unroll
          for (int v = 0; v < 4; ++v) {
            four[v] = sums.sums[i][kN - 2 + v % 2].values[half * 2 + v / 2];
          }
          store<4>(four, line + n);
        }
      } else {
#pragma unroll
        for (int j = 0; j < kN; ++j) {
          const int n = first_column + Tile::first_column() + j * 8 + lane % 4 * 2;
          if (n >= p.columns) continue;
          const float pair[2] = {sums.sums[i][j].values[half * 2],
                                 sums.sums[i][j].values[half * 2 + 1]};
          store<2>(pair, line + n);
        }
      }
    }
  }
}

// The second pass: dw[o][c][tap] from the splits of [o][tap][c].
template <typename T>
__global__ void __launch_bounds__(kThreads)
    reduce_split_k_nhwc(const float* __restrict__ partial, T* __restrict__ dw, int64_t count,
                        int64_t splits, uint32_t group_channels, uint32_t taps,
                        conv_cuda::Divider by_group_channels, conv_cuda::Divider by_taps) {
  const int64_t at = global_thread();
  if (at >= count) return;
  float sum = 0;
  for (int64_t split = 0; split < splits; ++split) sum += partial[split * count + at];
  uint32_t channel, tap;
  const int64_t output =
      by_taps.divmod(by_group_channels.divmod(static_cast<uint32_t>(at), channel), tap);
  dw[(output * group_channels + channel) * taps + tap] = static_cast<T>(sum);
}

template <typename Format, int rows>
void launch_weight_grad(const WeightGradArguments<typename Format::Element>& p, int64_t splits,
                        cudaStream_t stream) {
  constexpr int kColumns = WeightGradTile<Format, rows>::kColumns;
  const dim3 grid(static_cast<unsigned>(ceil_div(p.columns, kColumns)),
                  static_cast<unsigned>(ceil_div(p.group_outputs, rows)),
                  static_cast<unsigned>(p.groups * splits));
  auto kernel = weight_grad_gemm<Format, rows>;
  constexpr int kBytes = kWeightGradBytes<Format, rows>;
  CAFFE_COMPAT_LAUNCH_DYNAMIC(kernel, grid, kGemmThreads, kBytes, stream, p);
}

template <typename Format>
void launch_fitting_weight_grad(const WeightGradArguments<typename Format::Element>& p, int rows,
                                int64_t splits, cudaStream_t stream) {
  if (rows == 128) {
    launch_weight_grad<Format, 128>(p, splits, stream);
  } else if (rows == 96) {
    launch_weight_grad<Format, 96>(p, splits, stream);
  } else {
    launch_weight_grad<Format, 64>(p, splits, stream);
  }
}

}  // namespace nhwc_cuda
}  // namespace caffe_compat
