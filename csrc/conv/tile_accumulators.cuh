// The sums of one tile of a matrix product, in the registers of a block: by plain FMA, or by tensor
// cores with TF32 or split TF32.
#pragma once

#include "common/cuda_utils.cuh"
#include "common/mma.cuh"

namespace caffe_compat {
namespace conv_cuda {

// A tile of the product, computed by kThreads threads from tiles of both operands that are kDepth
// deep, in shared memory as [k][row] and [k][column].
constexpr int kTileDepth = 16;
template <int rows, int columns>
struct GemmTile {
  static constexpr int kRows = rows, kColumns = columns, kDepth = kTileDepth;
  // Unused elements behind each row of shared memory.  Rows stay aligned to 16 bytes, and rows k to
  // k + 3, which a fragment reads together, start 8 banks apart.
  static constexpr int kPad = 8;
};
template <typename A, typename Tile>
using SharedTileA = A[Tile::kDepth][Tile::kRows + Tile::kPad];
template <typename A, typename Tile>
using SharedTileB = A[Tile::kDepth][Tile::kColumns + Tile::kPad];

// 16 x 16 threads.  Each has blocks of 4 x 4 sums, 64 rows or columns apart:
//
//            columns 0-3  4-7  ...  60-63   64-67 ...
//   rows 0-3    thread 0    1  ...     15       0 ...
//   rows 4-7          16   17  ...     31      16 ...
//   rows 64-67         0    1  ...
template <typename A, typename Tile_>
struct FmaAccumulators {
  using Tile = Tile_;
  static constexpr int kM = Tile::kRows / 16, kN = Tile::kColumns / 16;
  A sums[kM][kN] = {};

  __device__ static int row(int i) { return i / 4 * 64 + threadIdx.x / 16 * 4 + i % 4; }
  __device__ static int column(int j) { return j / 4 * 64 + threadIdx.x % 16 * 4 + j % 4; }

  __device__ void add(const SharedTileA<A, Tile>& a, const SharedTileB<A, Tile>& b) {
#pragma unroll
    for (int k = 0; k < Tile::kDepth; ++k) {
      A left[kM], right[kN];
#pragma unroll
      for (int i = 0; i < kM; ++i) left[i] = a[k][row(i)];
#pragma unroll
      for (int j = 0; j < kN; ++j) right[j] = b[k][column(j)];
#pragma unroll
      for (int i = 0; i < kM; ++i) {
#pragma unroll
        for (int j = 0; j < kN; ++j) sums[i][j] += left[i] * right[j];
      }
    }
  }

  template <typename Visit>
  __device__ void for_each(const Visit& visit) const {
#pragma unroll
    for (int i = 0; i < kM; ++i) {
#pragma unroll
      for (int j = 0; j < kN; ++j) visit(row(i), column(j), sums[i][j]);
    }
  }
};

// 2 x 4 warps, each with kM x kN fragments of 16 x 8.  `split`: float32 as two TF32 numbers.
template <typename Tile_, bool split>
struct TensorCoreAccumulators {
  using Tile = Tile_;
  static constexpr int kM = Tile::kRows / 2 / 16, kN = Tile::kColumns / 4 / 8;
  FragmentC sums[kM][kN] = {};

  __device__ static int warp_row() { return threadIdx.x / 32 / 4 * (Tile::kRows / 2); }
  __device__ static int warp_column() { return threadIdx.x / 32 % 4 * (Tile::kColumns / 4); }

  __device__ static void part(float value, uint32_t& big, uint32_t& small) {
    if constexpr (split) {
      split_to_tf32(value, big, small);
    } else {
      big = float_bits(round_to_tf32(value));
    }
  }

  __device__ void add(const SharedTileA<float, Tile>& a, const SharedTileB<float, Tile>& b) {
    const int row = threadIdx.x % 32 / 4, column = threadIdx.x % 4;
#pragma unroll
    for (int k = 0; k < Tile::kDepth; k += 8) {
      FragmentA big_a[kM], small_a[kM];
      FragmentB big_b[kN], small_b[kN];
#pragma unroll
      for (int i = 0; i < kM; ++i) {
#pragma unroll
        for (int v = 0; v < 4; ++v) {
          const float value = a[k + column + v / 2 * 4][warp_row() + i * 16 + row + v % 2 * 8];
          part(value, big_a[i].words[v], small_a[i].words[v]);
        }
      }
#pragma unroll
      for (int j = 0; j < kN; ++j) {
#pragma unroll
        for (int v = 0; v < 2; ++v) {
          const float value = b[k + column + v * 4][warp_column() + j * 8 + row];
          part(value, big_b[j].words[v], small_b[j].words[v]);
        }
      }
#pragma unroll
      for (int i = 0; i < kM; ++i) {
#pragma unroll
        for (int j = 0; j < kN; ++j) {
          if constexpr (split) {
            // Tensor cores cut off the last bits when they add, so the long sum is kept outside of
            // them, in float32 that is rounded.
            FragmentC sum = {};
            sum = multiply_add<Tf32>(small_a[i], big_b[j], sum);
            sum = multiply_add<Tf32>(big_a[i], small_b[j], sum);
            sum = multiply_add<Tf32>(big_a[i], big_b[j], sum);
#pragma unroll
            for (int v = 0; v < 4; ++v) sums[i][j].values[v] += sum.values[v];
          } else {
            sums[i][j] = multiply_add<Tf32>(big_a[i], big_b[j], sums[i][j]);
          }
        }
      }
    }
  }

  template <typename Visit>
  __device__ void for_each(const Visit& visit) const {
    const int row = threadIdx.x % 32 / 4, column = threadIdx.x % 4 * 2;
#pragma unroll
    for (int i = 0; i < kM; ++i) {
#pragma unroll
      for (int j = 0; j < kN; ++j) {
#pragma unroll
        for (int v = 0; v < 4; ++v) {
          visit(warp_row() + i * 16 + row + v / 2 * 8, warp_column() + j * 8 + column + v % 2,
                sums[i][j].values[v]);
        }
      }
    }
  }
};

}  // namespace conv_cuda

}  // namespace caffe_compat
