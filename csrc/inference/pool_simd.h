// Pooling.  Include after common/simd.h.
#pragma once

#include <algorithm>
#include <cstdint>

#include "common/vectors_simd.h"
#include "inference/inference.h"
#include "inference/window_simd.h"

namespace caffe_compat::CAFFE_COMPAT_SIMD {
namespace inference {

// Neighbouring output pixels of a row, `from` their first window's first number; all taps of the
// range lie inside the input.  `factor`: what makes averages of the sums.
template <int pixels, bool average, bool whole>
CAFFE_COMPAT_SIMD_INLINE void pool_tile(const Pool& p, const float* from, int64_t pixel, Taps down,
                                        Taps across, float factor, int64_t c, int count) {
  const Window& w = p.window;
  const int64_t next = w.stride_w * p.in.stride;
  Floats totals[pixels];
#pragma GCC unroll 4
  for (int x = 0; x < pixels; ++x) {
    totals[x] = average ? Floats::zero() : Floats::all(-__builtin_inff());
  }
  for (int64_t i = down.first; i < down.last; ++i) {
    const float* row = from + i * p.in.width * p.in.stride + c;
    for (int64_t j = across.first; j < across.last; ++j) {
      const float* numbers = row + j * p.in.stride;
#pragma GCC unroll 4
      for (int x = 0; x < pixels; ++x) {
        const Floats value = load_some<whole>(numbers + x * next, count);
        totals[x] = average ? totals[x] + value : max_or_nan(totals[x], value);
      }
    }
  }
  float* to = p.out.data + pixel * p.out.stride + c;
#pragma GCC unroll 4
  for (int x = 0; x < pixels; ++x) {
    const Floats total = average ? totals[x] * Floats::all(factor) : totals[x];
    store_some<whole>(total, to + x * p.out.stride, count);
  }
}

template <bool average>
void pool_rows(const Pool& p, TaskRange rows) {
  const Window& w = p.window;
  const Taps inner = inner_columns(p.in, p.out, w), all = {0, w.kernel_w};
  for (int64_t row = rows.first; row < rows.last; ++row) {
    const int64_t n = row / p.out.height, y = row % p.out.height * w.stride_h - w.pad_h;
    const Taps down = taps_inside(y, w.kernel_h, 1, p.in.height);
    const float* line = p.in.data + (n * p.in.height + y) * p.in.width * p.in.stride;
    // Caffe's divisor: the window clipped to the padded input.
    const int64_t high = std::min(y + w.kernel_h, p.in.height + w.pad_h) - y;
    for (int64_t column = 0; column < p.out.width;) {
      const int64_t x = column * w.stride_w - w.pad_w, pixel = row * p.out.width + column;
      const int64_t wide = std::min(x + w.kernel_w, p.in.width + w.pad_w) - x;
      const float factor = 1.f / static_cast<float>(high * wide);
      const float* from = line + x * p.in.stride;
      if (column >= inner.first && column + 4 <= inner.last) {
        for_each_vector(p.in.channels, [&](int64_t c, int count, auto whole) {
          pool_tile<4, average, whole>(p, from, pixel, down, all, factor, c, count);
        });
        column += 4;
      } else {
        const Taps across = taps_inside(x, w.kernel_w, 1, p.in.width);
        for_each_vector(p.in.channels, [&](int64_t c, int count, auto whole) {
          pool_tile<1, average, whole>(p, from, pixel, down, across, factor, c, count);
        });
        column += 1;
      }
    }
  }
}

inline void pool(const Pool& p, TaskRange rows) {
  if (p.average) {
    pool_rows<true>(p, rows);
  } else {
    pool_rows<false>(p, rows);
  }
}

}  // namespace inference
}  // namespace caffe_compat::CAFFE_COMPAT_SIMD
