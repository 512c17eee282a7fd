// Small matrix products of any size from register tiles.  Include after common/simd.h.
#pragma once

#include <cstdint>
#include <utility>

#include "common/register_tile_simd.h"

namespace caffe_compat::CAFFE_COMPAT_SIMD {

// c = a b, or c += a b with `add`; strides as in RegisterTile::add_product.  The depth may be cut
// into `parts` of `depth` each: those of a lie `a_part` apart, those of b follow each other.
struct GemmArguments {
  const float* a;
  int64_t a_row, a_step;
  const float* b;
  int64_t b_step, depth;
  float* c;
  int64_t c_row;
  bool add = false;
  int64_t parts = 1, a_part = 0;
  // Where given, with one part and dense rows of b: a matrix like b that is brought into the L2
  // cache meanwhile.
  const float* next = nullptr;
};

// The rows of a register tile of so many vectors.
constexpr int tile_rows(int vectors) { return vectors == 3 ? kTileRows * 2 / 3 : kTileRows; }

template <int rows, int vectors>
void gemm_tile(const GemmArguments& p) {
  RegisterTile<rows, vectors> tile;
  tile.clear();
  if (p.next) {
    tile.add_product_and_fetch(p.a, p.a_row, p.a_step, p.b, p.depth, p.next);
  } else {
    for (int64_t i = 0; i < p.parts; ++i) {
      tile.add_product(p.a + i * p.a_part, p.a_row, p.a_step, p.b + i * p.depth * p.b_step,
                       p.b_step, p.depth);
    }
  }
  if (p.add) {
    tile.add_to(p.c, p.c_row);
  } else {
    tile.store(p.c, p.c_row);
  }
}

template <int vectors, int... rows>
void gemm_rows(GemmArguments p, int64_t count, std::integer_sequence<int, rows...>) {
  using Function = void (*)(const GemmArguments&);
  static constexpr Function functions[] = {gemm_tile<rows + 1, vectors>...};
  constexpr int64_t most = sizeof...(rows);
  const float* const next_end = p.next ? p.next + p.depth * vectors * Floats::kLanes : nullptr;
  // Tiles of nearly equal size: one of few rows would leave the arithmetic units idle.
  for (int64_t left = (count + most - 1) / most; left > 0; --left) {
    const int64_t now = (count + left - 1) / left;
    functions[now - 1](p);
    p.a += now * p.a_row;
    p.c += now * p.c_row;
    count -= now;
    // Each tile fetches a vector for each step.
    if (p.next) p.next += p.depth * Floats::kLanes;
    if (p.next == next_end) p.next = nullptr;
  }
}

// The product of any number of rows by one to three vectors of columns.
inline void gemm(const GemmArguments& p, int64_t rows, int vectors) {
  switch (vectors) {
    case 1:
      return gemm_rows<1>(p, rows, std::make_integer_sequence<int, tile_rows(1)>());
    case 2:
      return gemm_rows<2>(p, rows, std::make_integer_sequence<int, tile_rows(2)>());
    default:
      return gemm_rows<3>(p, rows, std::make_integer_sequence<int, tile_rows(3)>());
  }
}

// The columns of b and c in panels of two vectors.  Of an odd number of vectors the last panel has
// three: one alone would leave the arithmetic units idle.
struct ColumnPanels {
  int64_t vectors;

  explicit ColumnPanels(int64_t columns)
      : vectors((columns + Floats::kLanes - 1) / Floats::kLanes) {}
  int64_t count() const { return vectors > 1 ? vectors / 2 : 1; }
  int width(int64_t panel) const {
    return vectors == 1 ? 1 : panel + 1 == count() && vectors % 2 ? 3 : 2;
  }
  int64_t first_column(int64_t panel) const { return panel * 2 * Floats::kLanes; }
  int64_t columns() const { return vectors * Floats::kLanes; }
};

}  // namespace caffe_compat::CAFFE_COMPAT_SIMD
