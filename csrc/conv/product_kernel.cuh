// The tiled product of the NCHW kernels and its launch.
#pragma once

#include <type_traits>

#include "conv/products.cuh"
#include "conv/tile_sums.cuh"

namespace caffe_compat {
namespace conv_cuda {

// Where a thread's i-th element of a tile lies: `size` rows (or columns) x kDepth, neighbours along
// k or along the row.
template <int size, bool depth_first>
__device__ __forceinline__ void place(int i, int& spot, int& k) {
  const int element = threadIdx.x + i * kThreads;
  if (depth_first) {
    k = element % 16, spot = element / 16;
  } else {
    spot = element % size, k = element / size;
  }
}

template <typename Product, typename Tile, typename Sums>
__global__ void __launch_bounds__(kThreads) product_kernel(Product p) {
  using A = typename Product::A;
  using SharedA = TileA<A, Tile>;
  using SharedB = TileB<A, Tile>;
  constexpr int kLoadsA = Tile::kRows * Tile::kDepth / kThreads;
  constexpr int kLoadsB = Tile::kColumns * Tile::kDepth / kThreads;
  // Depth-first threads visit several columns, the others stay on one.
  constexpr int kSpots = Product::kDepthFirstB ? kLoadsB : 1;
  static_assert(Tile::kDepth == 16 && kThreads % Tile::kColumns == 0);
  CAFFE_COMPAT_SHARED(SharedA, tile_a, 2);
  CAFFE_COMPAT_SHARED(SharedB, tile_b, 2);

  const int64_t group = blockIdx.z % p.s.groups;
  const int64_t first_row = static_cast<int64_t>(blockIdx.y) * Tile::kRows;
  const int64_t first_column = static_cast<int64_t>(blockIdx.x) * Tile::kColumns;
  const int rows_left =
      static_cast<int>(p.rows - first_row < Tile::kRows ? p.rows - first_row : Tile::kRows);
  const auto* first_a = p.row(group, first_row);
  const int64_t row_stride = p.row_stride();
  typename Product::Spot spots[kSpots];
  bool inside_b[kSpots];
#pragma unroll
  for (int i = 0; i < kSpots; ++i) {
    int column, k;
    place<Tile::kColumns, Product::kDepthFirstB>(i, column, k);
    inside_b[i] = first_column + column < p.columns;
    spots[i] = p.spot(group, inside_b[i] ? first_column + column : 0);
  }

  A next_a[kLoadsA], next_b[kLoadsB];
  const auto fetch = [&](int64_t round, uint32_t depth) {
#pragma unroll
    for (int i = 0; i < kLoadsA; ++i) {
      int row, k;
      place<Tile::kRows, true>(i, row, k);
      const bool inside = row < rows_left && depth + k < p.depth;
      next_a[i] = inside ? p.load_a(first_a + row * row_stride, round, depth + k) : A(0);
    }
#pragma unroll
    for (int i = 0; i < kLoadsB; ++i) {
      int column, k;
      place<Tile::kColumns, Product::kDepthFirstB>(i, column, k);
      const int spot = Product::kDepthFirstB ? i : 0;
      const bool inside = inside_b[spot] && depth + k < p.depth;
      next_b[i] = inside ? p.load_b(spots[spot], round, depth + k) : A(0);
    }
  };

  Sums sums;
  int64_t round, last_round;
  uint32_t depth = 0;
  p.rounds(round, last_round);
  if (round < last_round) fetch(round, 0);
  for (int stage = 0; round < last_round; stage ^= 1) {
#pragma unroll
    for (int i = 0; i < kLoadsA; ++i) {
      int row, k;
      place<Tile::kRows, true>(i, row, k);
      tile_a[stage][k][row] = next_a[i];
    }
#pragma unroll
    for (int i = 0; i < kLoadsB; ++i) {
      int column, k;
      place<Tile::kColumns, Product::kDepthFirstB>(i, column, k);
      tile_b[stage][k][column] = next_b[i];
    }
    // One barrier for each tile: the other stage was last read before the previous one.
    __syncthreads();
    depth += Tile::kDepth;
    if (depth >= p.depth) depth = 0, ++round;
    if (round < last_round) fetch(round, depth);  // in flight while this tile is multiplied
    sums.add(tile_a[stage], tile_b[stage]);
  }
  sums.for_each([&](int row, int column, A sum) {
    const int64_t m = first_row + row, n = first_column + column;
    if (m < p.rows && n < p.columns) p.store(group, m, n, sum);
  });
}

template <typename Sums, typename Product>
void launch_product(const Product& p, int64_t parts, cudaStream_t stream) {
  using Tile = typename Sums::TileType;
  const dim3 grid(static_cast<unsigned>(ceil_div(p.columns, Tile::kColumns)),
                  static_cast<unsigned>(ceil_div(p.rows, Tile::kRows)),
                  static_cast<unsigned>(p.s.groups * parts));
  auto kernel = product_kernel<Product, Tile, Sums>;
  CAFFE_COMPAT_LAUNCH(kernel, grid, kThreads, stream, p);
}

using LargeTile = Tile<128, 128>;
// Twice the fragments: a wider one would not fit into the registers.
using LargeSplitTile = Tile<128, 64>;
using SmallTile = Tile<64, 64>;

// The large tile where it is mostly full, for it needs fewer loads.
template <typename Large, typename Small, typename Product>
void launch_fitting(const Product& p, int64_t parts, cudaStream_t stream) {
  if (p.rows > 64 && p.columns > 64) return launch_product<Large>(p, parts, stream);
  launch_product<Small>(p, parts, stream);
}

template <typename Product>
void multiply(const Product& p, int64_t parts, ConvMath math, cudaStream_t stream) {
  using A = typename Product::A;
  if constexpr (std::is_same_v<A, double>) {
    launch_product<FmaSums<A, SmallTile>>(p, parts, stream);
  } else if constexpr (!std::is_same_v<typename Product::Element, float>) {
    launch_fitting<TensorSums<LargeTile, false>, TensorSums<SmallTile, false>>(p, parts, stream);
  } else if (math == ConvMath::kFma) {
    launch_fitting<FmaSums<A, LargeTile>, FmaSums<A, SmallTile>>(p, parts, stream);
  } else if (math == ConvMath::kTf32) {
    launch_fitting<TensorSums<LargeTile, false>, TensorSums<SmallTile, false>>(p, parts, stream);
  } else {
    launch_fitting<TensorSums<LargeSplitTile, true>, TensorSums<SmallTile, true>>(p, parts, stream);
  }
}

}  // namespace conv_cuda

}  // namespace caffe_compat
