// Small matrix products of any size from tiles in registers.  Include after common/simd.h.
#pragma once

#include <cstdint>
#include <utility>

#include "common/gemm_micro_simd.h"

namespace caffe_compat::CAFFE_COMPAT_SIMD {

// c (rows, vectors) = or += a b; see Tile::add_product.  a may be in `parts`, each `a_part` after
// the last and with its own `depth` rows of b, which follow each other.
struct ProductArguments {
  const float* a;
  int64_t a_row, a_step;
  const float* b;
  int64_t b_step, depth;
  float* c;
  int64_t c_row;
  bool add = false;
  int64_t parts = 1, a_part = 0;
};

// The rows of a tile that keep its accumulators in registers.
constexpr int tile_rows(int vectors) { return vectors == 3 ? kTileRows * 2 / 3 : kTileRows; }

template <int rows, int vectors>
void multiply_tile(const ProductArguments& p) {
  Tile<rows, vectors> tile;
  tile.clear();
  for (int64_t i = 0; i < p.parts; ++i) {
    tile.add_product(p.a + i * p.a_part, p.a_row, p.a_step, p.b + i * p.depth * p.b_step, p.b_step,
                     p.depth);
  }
  if (p.add) {
    tile.add_to(p.c, p.c_row);
  } else {
    tile.store(p.c, p.c_row);
  }
}

template <int vectors, int... rows>
void multiply_rows(ProductArguments p, int64_t count, std::integer_sequence<int, rows...>) {
  using Function = void (*)(const ProductArguments&);
  static constexpr Function functions[] = {multiply_tile<rows + 1, vectors>...};
  constexpr int64_t most = sizeof...(rows);
  // Tiles of nearly equal size: one of few rows would leave the arithmetic units idle.
  for (int64_t left = (count + most - 1) / most; left > 0; --left) {
    const int64_t now = (count + left - 1) / left;
    functions[now - 1](p);
    p.a += now * p.a_row;
    p.c += now * p.c_row;
    count -= now;
  }
}

// The product of any number of rows and one to three vectors of columns.
inline void multiply(const ProductArguments& p, int64_t rows, int vectors) {
  switch (vectors) {
    case 1:
      return multiply_rows<1>(p, rows, std::make_integer_sequence<int, tile_rows(1)>());
    case 2:
      return multiply_rows<2>(p, rows, std::make_integer_sequence<int, tile_rows(2)>());
    default:
      return multiply_rows<3>(p, rows, std::make_integer_sequence<int, tile_rows(3)>());
  }
}

// Columns in panels of two vectors; the last one has three where their number is odd.
struct Panels {
  int64_t vectors;

  explicit Panels(int64_t columns) : vectors((columns + Floats::kLanes - 1) / Floats::kLanes) {}
  int64_t count() const { return vectors > 1 ? vectors / 2 : 1; }
  int width(int64_t panel) const {
    return vectors == 1 ? 1 : panel + 1 == count() && vectors % 2 ? 3 : 2;
  }
  int64_t first_column(int64_t panel) const { return panel * 2 * Floats::kLanes; }
  int64_t columns() const { return vectors * Floats::kLanes; }
};

}  // namespace caffe_compat::CAFFE_COMPAT_SIMD
