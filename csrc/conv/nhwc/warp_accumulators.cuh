// What one warp sums with tensor cores, in its registers: kM x kN fragments of 16 x 8.
//
// What bounds these products on an H100, where an SM has four parts that issue one instruction a
// cycle each, 128 bytes a cycle of shared memory and about 24 of L2.  A part does a product of
// fragments ("MMA") in about 6 cycles, so an SM does 0.6 a cycle.  A warp that sums 16 kM x 8 kN
// numbers loads, for 32 bytes of the depth,
//
//   32 (16 kM + 8 kN) bytes from shared memory for kM kN MMAs; split, three times as many
//
//   tile of a warp     bytes an MMA     a cycle at 0.6 MMAs    split: bytes an MMA
//   64 x 64                 128                 77                    43
//   64 x 48                 149                 90                    50
//   64 x 32                 192                115                    64
//   32 x 32                 256                154 > 128              85
//
// and a block of 2 x 2 such warps fetches half of that again from L2 and writes it to shared
// memory: 64 x 64 plain 38 bytes a cycle, more than L2 gives, so what is read under several taps is
// kept in the first-level cache (copy_16_bytes_again).  So plain formats have tiles of 64 x 64,
// where each loaded fragment is used 4 or 8 times; split numbers are bound by MMAs, and may have
// smaller ones for the sake of registers.  Each part issues 6 instructions while an MMA runs: 2.5
// (16-bit types), 3 (TF32) and 4 (split) an MMA leave room.  An MMA has its share of
//
//   instructions                split 64 x 32    TF32 64 x 64    16 bits, 64 x 64
//   the MMA itself                   1               1                1
//   rounding or splitting            1.5             1                0
//   sums kept outside                0.7             0                0
//   loads from shared memory         0.2             0.3              0.3
//   copies and what is around        0.3             0.6              0.7
#pragma once

#include "common/mma.cuh"

namespace caffe_compat {
namespace nhwc_cuda {

// Memory moves in chunks of 16 bytes: 8 numbers of a 16-bit type or 4 of float32.  Along the depth
// a fragment of A or B is two chunks deep in every format.
constexpr int kChunkBytes = 16;

// Of a block: four warps, two or three such blocks on an SM.
constexpr int kGemmThreads = 128;

// How numbers are stored (T) and multiplied: 16-bit types as they are, float32 as TF32 or, with
// `split_`, as the sum of two TF32 numbers.
template <typename T, bool split_ = false>
struct NumberFormat {
  using Element = T;
  static constexpr bool kFloat = std::is_same_v<T, float>, kSplit = split_;
  using Number = std::conditional_t<kFloat, Tf32, T>;
  static constexpr int kPerChunk = kChunkBytes / sizeof(T);
};

// A block's tile of the product: down x across warps, each with 16 m x 8 n numbers.
template <int down, int across, int m, int n>
struct WarpGrid {
  static_assert(down * across * 32 == kGemmThreads);
  static constexpr int kM = m, kN = n;
  static constexpr int kRows = down * 16 * m, kColumns = across * 8 * n;

  __device__ static int first_row() { return threadIdx.x / 32 / across * 16 * m; }
  __device__ static int first_column() { return threadIdx.x / 32 % across * 8 * n; }
};

// Leaves the big parts in `words`.
template <int count>
__device__ __forceinline__ void split(uint32_t (&words)[count], uint32_t (&small)[count]) {
#pragma unroll
  for (int w = 0; w < count; ++w) split_for_tf32(bits_float(words[w]), words[w], small[w]);
}

template <int count>
__device__ __forceinline__ void round(uint32_t (&words)[count]) {
#pragma unroll
  for (int w = 0; w < count; ++w) words[w] = float_bits(ready_for_tf32(bits_float(words[w])));
}

template <typename Format, int kM, int kN>
struct WarpAccumulators {
  FragmentC sums[kM][kN] = {};

  // Adds the products of a stage, four chunks deep.  load_b(half, b) gives all fragments of B of
  // one half of the depth; load_a(half, i, a) fragments i and i + 1 of A; both as they are in
  // memory.
  template <typename LoadA, typename LoadB>
  __device__ __forceinline__ void add_stage(const LoadA& load_a, const LoadB& load_b) {
    if constexpr (Format::kSplit) {
      add_split_stage(load_a, load_b);
    } else {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        FragmentB b[kN];
        load_b(half, b);
#pragma unroll
        for (int i = 0; i < kM; i += 2) {
          FragmentA a[2];
          load_a(half, i, a);
#pragma unroll
          for (int j = 0; j < kN; ++j) {
            sums[i][j] = multiply_add<typename Format::Number>(a[0], b[j], sums[i][j]);
            sums[i + 1][j] = multiply_add<typename Format::Number>(a[1], b[j], sums[i + 1][j]);
          }
        }
      }
    }
  }

 private:
  // Tensor cores cut off the last bits when they add, so the long sum is kept outside of them, in
  // float32 that is rounded.  Within them a stage is summed, small products first.
  template <typename LoadA, typename LoadB>
  __device__ __forceinline__ void add_split_stage(const LoadA& load_a, const LoadB& load_b) {
    FragmentB b[2][kN], small_b[2][kN];
#pragma unroll
    for (int half = 0; half < 2; ++half) load_b(half, b[half], small_b[half]);
#pragma unroll
    for (int i = 0; i < kM; i += 2) {
      if constexpr (kM * kN > 16) {
        if (i == 2) part_here();  // else it spills registers
      }
      FragmentA a[2][2], small_a[2][2];
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        load_a(half, i, a[half]);
#pragma unroll
        for (int part = 0; part < 2; ++part) split(a[half][part].words, small_a[half][part].words);
      }
#pragma unroll
      for (int part = 0; part < 2; ++part) {
        FragmentC stage[kN] = {};
#pragma unroll
        for (int half = 0; half < 2; ++half) {
#pragma unroll
          for (int j = 0; j < kN; ++j) {
            stage[j] = multiply_add<Tf32>(small_a[half][part], b[half][j], stage[j]);
          }
#pragma unroll
          for (int j = 0; j < kN; ++j) {
            stage[j] = multiply_add<Tf32>(a[half][part], small_b[half][j], stage[j]);
          }
        }
#pragma unroll
        for (int half = 0; half < 2; ++half) {
#pragma unroll
          for (int j = 0; j < kN; ++j) {
            stage[j] = multiply_add<Tf32>(a[half][part], b[half][j], stage[j]);
          }
        }
#pragma unroll
        for (int j = 0; j < kN; ++j) {
#pragma unroll
          for (int v = 0; v < 4; ++v) sums[i + part][j].values[v] += stage[j].values[v];
        }
      }
    }
  }
};

// Tiles of the pipeline from global to shared memory; kStages - 1 of them are on their way at a
// time.
constexpr int kStages = 4;

}  // namespace nhwc_cuda
}  // namespace caffe_compat
