// The micro-kernel of matrix products on the CPU: a tile of C = A B that stays in registers while A
// and B pass by.  Include after common/simd.h, in a kernel's `_simd.h`.
//
//                         row d of B:  [ vector 0 ][ vector 1 ]
//                                           |           |
//     A[0][d], spread to all lanes -->  [at[0][0] ][at[0][1] ]
//     A[1][d]                      -->  [at[1][0] ][at[1][1] ]      += for d = 0, 1, ... depth - 1
//       ...                             [   ...   ][   ...   ]
#pragma once

#include <cstdint>

namespace caffe_compat::CAFFE_COMPAT_SIMD {

// Tile, vectors of one row of B and one number of A fill the registers, of which AVX-512 has 32 and
// AVX2 16.
constexpr int kTileRows = CAFFE_COMPAT_SIMD_LANES == 16 ? 12 : 6;
constexpr int kTileVectors = 2;
constexpr int kTileColumns = kTileVectors * Floats::kLanes;

template <int rows, int vectors = kTileVectors>
struct RegisterTile {
  Floats at[rows][vectors];

  CAFFE_COMPAT_SIMD_INLINE void clear() {
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) at[r][v] = Floats::zero();
    }
  }

  CAFFE_COMPAT_SIMD_INLINE void load(const float* from, int64_t row_stride) {
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) {
        at[r][v] = Floats::load(from + r * row_stride + v * Floats::kLanes);
      }
    }
  }

  CAFFE_COMPAT_SIMD_INLINE void store(float* to, int64_t row_stride) const {
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) {
        at[r][v].store(to + r * row_stride + v * Floats::kLanes);
      }
    }
  }

  CAFFE_COMPAT_SIMD_INLINE void add_to(float* sums, int64_t row_stride) const {
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) {
        float* to = sums + r * row_stride + v * Floats::kLanes;
        (at[r][v] + Floats::load(to)).store(to);
      }
    }
  }

  CAFFE_COMPAT_SIMD_INLINE void add_from(const float* from, int64_t row_stride) {
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) {
        at[r][v] = at[r][v] + Floats::load(from + r * row_stride + v * Floats::kLanes);
      }
    }
  }

  // With non-temporal stores: see Floats::stream.
  CAFFE_COMPAT_SIMD_INLINE void stream(float* to, int64_t row_stride) const {
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) {
        at[r][v].stream(to + r * row_stride + v * Floats::kLanes);
      }
    }
  }

  // tile[r][c] += sum over d < depth of a[r * a_row + d * a_step] * b[d * b_step + c].  `ahead`:
  // how many numbers behind those in use B is prefetched, 0 for not at all.
  template <int64_t ahead = 0>
  CAFFE_COMPAT_SIMD_INLINE void add_product(const float* a, int64_t a_row, int64_t a_step,
                                            const float* b, int64_t b_step, int64_t depth) {
    for (int64_t d = 0; d < depth; ++d) {
      Floats row[vectors];
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) row[v] = Floats::load(b + v * Floats::kLanes);
      if constexpr (ahead != 0) {
        for (int c = 0; c < vectors * Floats::kLanes; c += 16) {
          _mm_prefetch(b + ahead + c, _MM_HINT_T0);
        }
      }
#pragma GCC unroll 16
      for (int r = 0; r < rows; ++r) {
        const Floats number = Floats::all(a[r * a_row]);
#pragma GCC unroll 4
        for (int v = 0; v < vectors; ++v) at[r][v] = multiply_add(number, row[v], at[r][v]);
      }
      a += a_step;
      b += b_step;
    }
  }

  // The same for dense rows of b, bringing a vector of `next` into the L2 cache at each step.
  CAFFE_COMPAT_SIMD_INLINE void add_product_and_fetch(const float* a, int64_t a_row, int64_t a_step,
                                                      const float* b, int64_t depth,
                                                      const float* next) {
    for (int64_t d = 0; d < depth; ++d) {
      Floats row[vectors];
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) row[v] = Floats::load(b + v * Floats::kLanes);
      _mm_prefetch(next, _MM_HINT_T1);
#pragma GCC unroll 16
      for (int r = 0; r < rows; ++r) {
        const Floats number = Floats::all(a[r * a_row]);
#pragma GCC unroll 4
        for (int v = 0; v < vectors; ++v) at[r][v] = multiply_add(number, row[v], at[r][v]);
      }
      a += a_step;
      b += vectors * Floats::kLanes;
      next += Floats::kLanes;
    }
  }

  // The same for dense rows of A and B.  fetch(b) is called before each row of B.
  //
  // The rows of A are reached from four addresses and one distance: with an address for each row
  // there are more than general registers, and those kept elsewhere come back through a port that
  // multiplications need.
  template <typename Fetch>
  CAFFE_COMPAT_SIMD_INLINE void add_dense_product(const float* a, int64_t a_row, const float* b,
                                                  int64_t depth, const Fetch& fetch) {
    constexpr int kSteps = 4, kColumns = vectors * Floats::kLanes;
    const float *a0 = a, *a3 = a + 3 * a_row, *a6 = a + 6 * a_row, *a9 = a + 9 * a_row;
    int64_t left = depth;
    for (; left >= kSteps; left -= kSteps) {
      asm("" : "+r"(a0), "+r"(a3), "+r"(a6), "+r"(a9));  // else the compiler has its own addresses
#pragma GCC unroll 4
      for (int i = 0; i < kSteps; ++i) {
        fetch(b);
        add_step(a0 + i, a3 + i, a6 + i, a9 + i, a_row, b);
        b += kColumns;
      }
      a0 += kSteps;
      a3 += kSteps;
      a6 += kSteps;
      a9 += kSteps;
    }
    for (; left > 0; --left) {
      asm("" : "+r"(a0), "+r"(a3), "+r"(a6), "+r"(a9));
      add_step(a0++, a3++, a6++, a9++, a_row, b);
      b += kColumns;
    }
  }

 private:
  static_assert(rows <= 12);

  // Adds a column of A times a row of B; a0, a3, a6, a9: the column's numbers of these rows.
  CAFFE_COMPAT_SIMD_INLINE void add_step(const float* a0, const float* a3, const float* a6,
                                         const float* a9, int64_t a_row, const float* b) {
    Floats row[vectors];
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) row[v] = Floats::load(b + v * Floats::kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) {
      const float* three = r < 3 ? a0 : r < 6 ? a3 : r < 9 ? a6 : a9;
      const Floats number = Floats::all(three[r % 3 * a_row]);
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) at[r][v] = multiply_add(number, row[v], at[r][v]);
    }
  }
};

}  // namespace caffe_compat::CAFFE_COMPAT_SIMD
