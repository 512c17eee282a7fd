// What one warp sums with tensor cores, in its registers: kM x kN fragments of 16 x 8.
#pragma once

#include "common/mma.cuh"

namespace caffe_compat {
namespace nhwc_cuda {

// Memory moves in chunks of 16 bytes: 8 numbers of a 16-bit type or 4 of float32.  Along k a
// fragment of A or B is two chunks deep in every format.
constexpr int kChunkBytes = 16;

// How numbers are stored (T) and multiplied: 16-bit types as they are, float32 as TF32 or, with
// `split_`, as the sum of two TF32 numbers.

template <typename T, bool split_ = false>
struct NumberFormat {
  using Element = T;
  static constexpr bool kFloat = std::is_same_v<T, float>, kSplit = split_;
  using Number = std::conditional_t<kFloat, Tf32, T>;
  static constexpr int kPerChunk = kChunkBytes / sizeof(T);
};

template <typename Format, int rows>
struct WarpAccumulators {
  static constexpr int kM = rows / 16, kN = 4;
  FragmentC sums[kM][kN] = {};

  // The fragments hold elements as they are in memory.
  __device__ __forceinline__ void add(FragmentA (&a)[kM], FragmentB (&b)[kN]) {
    if constexpr (Format::kSplit) {
      add_split(a, b);
    } else {
      if constexpr (Format::kFloat) {
#pragma unroll
        for (int i = 0; i < kM; ++i) round(a[i].words);
#pragma unroll
        for (int j = 0; j < kN; ++j) round(b[j].words);
      }
#pragma unroll
      for (int i = 0; i < kM; ++i) {
#pragma unroll
        for (int j = 0; j < kN; ++j) {
          multiply_add<typename Format::Number>(a[i], b[j], sums[i][j]);
        }
      }
    }
  }

 private:
  template <int count>
  __device__ static void round(uint32_t (&words)[count]) {
#pragma unroll
    for (int w = 0; w < count; ++w) words[w] = float_bits(round_to_tf32(bits_float(words[w])));
  }

  // Leaves the big parts in `words`.
  template <int count>
  __device__ static void split(uint32_t (&words)[count], uint32_t (&small)[count]) {
#pragma unroll
    for (int w = 0; w < count; ++w) split_to_tf32(bits_float(words[w]), words[w], small[w]);
  }

  // Tensor cores cut off the last bits when they add, so the long sum is kept outside of them, in
  // float32 that is rounded.
  __device__ __forceinline__ void add_split(FragmentA (&a)[kM], FragmentB (&b)[kN]) {
    FragmentB small_b[kN];
#pragma unroll
    for (int j = 0; j < kN; ++j) split(b[j].words, small_b[j].words);
#pragma unroll
    for (int i = 0; i < kM; ++i) {
      FragmentA small_a;
      split(a[i].words, small_a.words);
#pragma unroll
      for (int j = 0; j < kN; ++j) {
        FragmentC sum = {};
        multiply_add<Tf32>(small_a, b[j], sum);
        multiply_add<Tf32>(a[i], small_b[j], sum);
        multiply_add<Tf32>(a[i], b[j], sum);
#pragma unroll
        for (int v = 0; v < 4; ++v) sums[i][j].values[v] += sum.values[v];
      }
    }
  }
};

// The 2 x 4 or 4 x 2 warps of a block of kThreads and what each of them sums.
template <int rows, int columns>
struct WarpGrid {
  static constexpr int kAcross = columns / 32, kDown = kThreads / 32 / kAcross;
  static constexpr int kWarpRows = rows / kDown;
  static_assert(kDown * kAcross * 32 == kThreads && kWarpRows % 32 == 0);

  __device__ static int first_row() { return threadIdx.x / 32 / kAcross * kWarpRows; }
  __device__ static int first_column() { return threadIdx.x / 32 % kAcross * 32; }
};

// Tiles of the pipeline from global to shared memory; kStages - 1 of them are on their way at a
// time.
constexpr int kStages = 4;

}  // namespace nhwc_cuda
}  // namespace caffe_compat
