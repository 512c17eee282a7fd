// The matrix product of the NCHW kernels and its launch: one block for each tile of the result.
//
//   registers  next_a, next_b     the operands' next tiles, on their way from global memory
//   shared     tile_a, tile_b     two stages of tiles: one is multiplied while the other is filled
//   registers  Accumulators       the sums
#pragma once

#include <type_traits>

#include "conv/gemm_operands.cuh"
#include "conv/tile_accumulators.cuh"

namespace caffe_compat {
namespace conv_cuda {

// Which element of a tile of `size` rows (or columns) x kDepth a thread loads as its i-th: its row
// (or column) and its k.  Neighbouring threads take neighbours along k when `depth_first`, else
// neighbouring rows.
template <int size, bool depth_first>
__device__ __forceinline__ void tile_position(int i, int& row, int& k) {
  const int element = threadIdx.x + i * kThreads;
  if (depth_first) {
    k = element % kTileDepth, row = element / kTileDepth;
  } else {
    row = element % size, k = element / size;
  }
}

template <typename Gemm, typename Tile, typename Accumulators>
__global__ void __launch_bounds__(kThreads) implicit_gemm(Gemm p) {
  using A = typename Gemm::A;
  using SharedA = SharedTileA<A, Tile>;
  using SharedB = SharedTileB<A, Tile>;
  constexpr int kLoadsA = Tile::kRows * Tile::kDepth / kThreads;
  constexpr int kLoadsB = Tile::kColumns * Tile::kDepth / kThreads;
  // A thread that loads depth-first visits several columns; one that does not stays on its own.
  constexpr int kOrigins = Gemm::kDepthFirstB ? kLoadsB : 1;
  static_assert(Tile::kDepth == kTileDepth && kThreads % Tile::kColumns == 0);
  CAFFE_COMPAT_SHARED(SharedA, tile_a, 2);
  CAFFE_COMPAT_SHARED(SharedB, tile_b, 2);

  const int64_t group = blockIdx.z % p.s.groups;
  const int64_t first_row = static_cast<int64_t>(blockIdx.y) * Tile::kRows;
  const int64_t first_column = static_cast<int64_t>(blockIdx.x) * Tile::kColumns;
  const int rows_left =
      static_cast<int>(p.rows - first_row < Tile::kRows ? p.rows - first_row : Tile::kRows);
  const auto* first_a = p.row(group, first_row);
  const int64_t row_stride = p.row_stride();
  typename Gemm::ColumnOrigin origins[kOrigins];
  bool inside_b[kOrigins];
#pragma unroll
  for (int i = 0; i < kOrigins; ++i) {
    int column, k;
    tile_position<Tile::kColumns, Gemm::kDepthFirstB>(i, column, k);
    inside_b[i] = first_column + column < p.columns;
    origins[i] = p.column_origin(group, inside_b[i] ? first_column + column : 0);
  }

  A next_a[kLoadsA], next_b[kLoadsB];
  const auto fetch = [&](int64_t round, uint32_t depth) {
#pragma unroll
    for (int i = 0; i < kLoadsA; ++i) {
      int row, k;
      tile_position<Tile::kRows, true>(i, row, k);
      const bool inside = row < rows_left && depth + k < p.depth;
      next_a[i] = inside ? p.load_a(first_a + row * row_stride, round, depth + k) : A(0);
    }
#pragma unroll
    for (int i = 0; i < kLoadsB; ++i) {
      int column, k;
      tile_position<Tile::kColumns, Gemm::kDepthFirstB>(i, column, k);
      const int origin = Gemm::kDepthFirstB ? i : 0;
      const bool inside = inside_b[origin] && depth + k < p.depth;
      next_b[i] = inside ? p.load_b(origins[origin], round, depth + k) : A(0);
    }
  };

  Accumulators sums;
  int64_t round, last_round;
  uint32_t depth = 0;
  p.rounds(round, last_round);
  if (round < last_round) fetch(round, 0);
  for (int stage = 0; round < last_round; stage ^= 1) {
#pragma unroll
    for (int i = 0; i < kLoadsA; ++i) {
      int row, k;
      tile_position<Tile::kRows, true>(i, row, k);
      tile_a[stage][k][row] = next_a[i];
    }
#pragma unroll
    for (int i = 0; i < kLoadsB; ++i) {
      int column, k;
      tile_position<Tile::kColumns, Gemm::kDepthFirstB>(i, column, k);
      tile_b[stage][k][column] = next_b[i];
    }
    // One barrier for each step is enough: the other stage was last read before the previous
    // barrier.
    __syncthreads();
    depth += Tile::kDepth;
    if (depth >= p.depth) depth = 0, ++round;
    if (round < last_round) fetch(round, depth);  // on its way while this tile is multiplied
    sums.add(tile_a[stage], tile_b[stage]);
  }
  sums.for_each([&](int row, int column, A sum) {
    const int64_t m = first_row + row, n = first_column + column;
    if (m < p.rows && n < p.columns) p.store(group, m, n, sum);
  });
}

template <typename Accumulators, typename Gemm>
void launch_gemm(const Gemm& p, int64_t splits, cudaStream_t stream) {
  using Tile = typename Accumulators::Tile;
  const dim3 grid(static_cast<unsigned>(ceil_div(p.columns, Tile::kColumns)),
                  static_cast<unsigned>(ceil_div(p.rows, Tile::kRows)),
                  static_cast<unsigned>(p.s.groups * splits));
  auto kernel = implicit_gemm<Gemm, Tile, Accumulators>;
  CAFFE_COMPAT_LAUNCH(kernel, grid, kThreads, stream, p);
}

using LargeTile = GemmTile<128, 128>;
// Split numbers are two fragments each: with a wider tile they would not fit into the registers.
using LargeSplitTile = GemmTile<128, 64>;
using SmallTile = GemmTile<64, 64>;

// The large tile needs fewer loads for each product; the small one where the large would be mostly
// empty.
template <typename Large, typename Small, typename Gemm>
void launch_fitting(const Gemm& p, int64_t splits, cudaStream_t stream) {
  if (p.rows > 64 && p.columns > 64) return launch_gemm<Large>(p, splits, stream);
  launch_gemm<Small>(p, splits, stream);
}

template <typename Gemm>
void run_gemm(const Gemm& p, int64_t splits, ConvMath math, cudaStream_t stream) {
  using A = typename Gemm::A;
  if constexpr (std::is_same_v<A, double>) {
    launch_gemm<FmaAccumulators<A, SmallTile>>(p, splits, stream);
  } else if constexpr (!std::is_same_v<typename Gemm::Element, float>) {
    launch_fitting<TensorCoreAccumulators<LargeTile, false>,
                   TensorCoreAccumulators<SmallTile, false>>(p, splits, stream);
  } else if (math == ConvMath::kFma) {
    launch_fitting<FmaAccumulators<A, LargeTile>, FmaAccumulators<A, SmallTile>>(p, splits, stream);
  } else if (math == ConvMath::kTf32) {
    launch_fitting<TensorCoreAccumulators<LargeTile, false>,
                   TensorCoreAccumulators<SmallTile, false>>(p, splits, stream);
  } else {
    launch_fitting<TensorCoreAccumulators<LargeSplitTile, true>,
                   TensorCoreAccumulators<SmallTile, true>>(p, splits, stream);
  }
}

}  // namespace conv_cuda

}  // namespace caffe_compat
