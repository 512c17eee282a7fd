// Depthwise convolution.  Include after common/simd.h.
#pragma once

#include <algorithm>
#include <cstdint>

#include "common/vectors_simd.h"
#include "conv/epilogue_simd.h"
#include "inference/inference.h"
#include "inference/window_simd.h"

namespace caffe_compat::CAFFE_COMPAT_SIMD {
namespace inference {

// Neighbouring output pixels of a row, `from` their first window's first number; all taps of the
// range lie inside the input.
template <int pixels, bool whole>
CAFFE_COMPAT_SIMD_INLINE void depthwise_tile(const DepthwiseConv& p, const float* from,
                                             int64_t pixel, Taps down, Taps across, int64_t c,
                                             int count) {
  const Window& w = p.window;
  const int64_t next = w.stride_w * p.in.stride;
  Floats sums[pixels];
#pragma GCC unroll 4
  for (int x = 0; x < pixels; ++x) sums[x] = Floats::zero();
  for (int64_t i = down.first; i < down.last; ++i) {
    const float* row = from + (i * w.dilation_h * p.in.width) * p.in.stride + c;
    const float* weight = p.weight + i * w.kernel_w * p.in.channels + c;
    for (int64_t j = across.first; j < across.last; ++j) {
      const Floats tap = load_some<whole>(weight + j * p.in.channels, count);
      const float* numbers = row + j * w.dilation_w * p.in.stride;
#pragma GCC unroll 4
      for (int x = 0; x < pixels; ++x) {
        sums[x] = multiply_add(load_some<whole>(numbers + x * next, count), tap, sums[x]);
      }
    }
  }
  const Finish<whole> finish(p.epilogue, c, count);
  float* to = p.out.data + (pixel - p.first_pixel) * p.out.stride + c;
#pragma GCC unroll 4
  for (int x = 0; x < pixels; ++x) {
    store_some<whole>(finish(sums[x], pixel + x), to + x * p.out.stride, count);
  }
}

// ---- 3x3 of dilation 1, stride 1 or 2 -----------------------------------------------------------
//
// For one vector of channels, whose weights stay in registers, tiles of two rows of four output
// pixels: each number of the input is loaded once for all outputs of the tile that it is for.

constexpr int kDepthwiseRows = 2, kDepthwiseColumns = 4;

// The vector of `value` in a register, so that the compiler does not load it anew at each use.
CAFFE_COMPAT_SIMD_INLINE Floats held(Floats value) {
  asm("" : "+v"(value.value));
  return value;
}

// `whole`: all lanes are there; `edge`: some of the window or of the output pixels may be missing.
template <int stride, bool whole>
struct Depthwise3x3 {
  static constexpr int kInputRows = (kDepthwiseRows - 1) * stride + 3;
  static constexpr int kInputColumns = (kDepthwiseColumns - 1) * stride + 3;

  const DepthwiseConv& p;
  int64_t n, first_row, end_row, c;
  int count;
  Floats taps[9], bias;

  CAFFE_COMPAT_SIMD_INLINE Depthwise3x3(const DepthwiseConv& conv, int64_t image, int64_t row,
                                        int64_t end, int64_t channel, int lanes)
      : p(conv), n(image), first_row(row), end_row(end), c(channel), count(lanes) {
    bias = p.epilogue.bias ? load_some<whole>(p.epilogue.bias + c, count) : Floats::zero();
#pragma GCC unroll 9
    for (int tap = 0; tap < 9; ++tap) {
      taps[tap] = load_some<whole>(p.weight + tap * p.in.channels + c, count);
    }
  }

  template <bool edge>
  CAFFE_COMPAT_SIMD_INLINE void tile(int64_t column) const {
    const int64_t y = first_row * stride - p.window.pad_h;
    const int64_t x = column * stride - p.window.pad_w;
    const int64_t height = p.in.height, width = p.in.width, step = p.in.stride;
    const float* from = p.in.data + ((n * height + y) * width + x) * step + c;
    const int64_t pixel = (n * p.out.height + first_row) * p.out.width + column;
    const int64_t out_width = p.out.width, out_step = p.out.stride;
    float* to = p.out.data + (pixel - p.first_pixel) * out_step + c;
    Floats sums[kDepthwiseRows][kDepthwiseColumns];
#pragma GCC unroll 4
    for (int v = 0; v < kDepthwiseColumns; ++v) {
#pragma GCC unroll 2
      for (int u = 0; u < kDepthwiseRows; ++u) sums[u][v] = bias;
    }
#pragma GCC unroll 5
    for (int i = 0; i < kInputRows; ++i) {
      if (edge && (y + i < 0 || y + i >= height)) continue;
      const float* row = from + i * width * step;
#pragma GCC unroll 9
      for (int k = 0; k < kInputColumns; ++k) {
        const int j = order(k);
        if (edge && (x + j < 0 || x + j >= width)) continue;
        const Floats number = held(load_some<whole>(row + j * step, count));
#pragma GCC unroll 2
        for (int u = 0; u < kDepthwiseRows; ++u) {
#pragma GCC unroll 4
          for (int v = 0; v < kDepthwiseColumns; ++v) {
            const int down = i - u * stride, across = j - v * stride;
            if (down >= 0 && down < 3 && across >= 0 && across < 3) {
              sums[u][v] = multiply_add(number, taps[down * 3 + across], sums[u][v]);
            }
          }
        }
      }
    }
    const auto write = [&](const auto& end) __attribute__((always_inline)) {
#pragma GCC unroll 2
      for (int u = 0; u < kDepthwiseRows; ++u) {
        if (edge && first_row + u >= end_row) continue;
        float* line = to + u * out_width * out_step;
#pragma GCC unroll 4
        for (int v = 0; v < kDepthwiseColumns; ++v) {
          if (edge && column + v >= out_width) continue;
          store_some<whole>(end(sums[u][v], pixel + u * out_width + v), line + v * out_step, count);
        }
      }
    };
    const Epilogue& e = p.epilogue;
    if (e.add || e.slopes || e.ceiling < __builtin_inff()) {
      Epilogue end = e;
      end.bias = nullptr;
      write(Finish<whole>(end, c, count));
    } else {
      const Floats floor = Floats::all(e.floor);
      write([floor](Floats sum, int64_t)
                __attribute__((always_inline)) { return max(floor, sum); });
    }
  }

  // The column of the input that is taken as number k: neighbours add to the same sums, and would
  // wait for each other.
  static constexpr int order(int k) { return stride == 1 ? k % 2 * 3 + k / 2 : k; }
};

// At most two rows, none from `end` on.
template <int stride>
void depthwise_3x3(const DepthwiseConv& p, int64_t n, int64_t row, int64_t end) {
  using Tile = Depthwise3x3<stride, true>;
  const int64_t y = row * stride - p.window.pad_h;
  const bool inside = y >= 0 && y + Tile::kInputRows <= p.in.height && row + kDepthwiseRows <= end;
  for (int64_t column = 0; column < p.out.width; column += kDepthwiseColumns) {
    const int64_t x = column * stride - p.window.pad_w;
    if (inside && x >= 0 && x + Tile::kInputColumns <= p.in.width &&
        column + kDepthwiseColumns <= p.out.width) {
      for_each_vector(p.in.channels, [&](int64_t c, int count, auto whole) {
        Depthwise3x3<stride, whole>(p, n, row, end, c, count).template tile<false>(column);
      });
    } else {
      for_each_vector(p.in.channels, [&](int64_t c, int count, auto whole) {
        Depthwise3x3<stride, whole>(p, n, row, end, c, count).template tile<true>(column);
      });
    }
  }
}

inline int64_t depthwise_tasks(const DepthwiseConv& p) {
  return p.out.batch * ((p.out.height + kDepthwiseRows - 1) / kDepthwiseRows);
}

inline void depthwise_row(const DepthwiseConv& p, int64_t n, int64_t output_row) {
  const Window& w = p.window;
  const Taps inner = inner_columns(p.in, p.out, w), all = {0, w.kernel_w};
  const int64_t row = n * p.out.height + output_row, y = output_row * w.stride_h - w.pad_h;
  const Taps down = taps_inside(y, w.kernel_h, w.dilation_h, p.in.height);
  const float* line = p.in.data + (n * p.in.height + y) * p.in.width * p.in.stride;
  for (int64_t column = 0; column < p.out.width;) {
    const int64_t x = column * w.stride_w - w.pad_w, pixel = row * p.out.width + column;
    const float* from = line + x * p.in.stride;
    if (column >= inner.first && column + 4 <= inner.last) {
      for_each_vector(p.in.channels, [&](int64_t c, int count, auto whole) {
        depthwise_tile<4, whole>(p, from, pixel, down, all, c, count);
      });
      column += 4;
    } else {
      const Taps across = taps_inside(x, w.kernel_w, w.dilation_w, p.in.width);
      for_each_vector(p.in.channels, [&](int64_t c, int count, auto whole) {
        depthwise_tile<1, whole>(p, from, pixel, down, across, c, count);
      });
      column += 1;
    }
  }
}

// Rows [row, end) of an image's output.
inline void depthwise_rows(const DepthwiseConv& p, int64_t n, int64_t row, int64_t end) {
  const Window& w = p.window;
  const bool small = w.kernel_h == 3 && w.kernel_w == 3 && w.dilation_h == 1 && w.dilation_w == 1 &&
                     w.stride_h == w.stride_w;
  if (small && w.stride_h == 1) {
    for (; row < end; row += kDepthwiseRows) depthwise_3x3<1>(p, n, row, end);
  } else if (small && w.stride_h == 2) {
    for (; row < end; row += kDepthwiseRows) depthwise_3x3<2>(p, n, row, end);
  } else {
    for (; row < end; ++row) depthwise_row(p, n, row);
  }
}

inline void depthwise(const DepthwiseConv& p, TaskRange tasks) {
  const int64_t pairs = (p.out.height + kDepthwiseRows - 1) / kDepthwiseRows;
  for (int64_t task = tasks.first; task < tasks.last; ++task) {
    const int64_t row = task % pairs * kDepthwiseRows;
    depthwise_rows(p, task / pairs, row, std::min<int64_t>(row + kDepthwiseRows, p.out.height));
  }
}

}  // namespace inference
}  // namespace caffe_compat::CAFFE_COMPAT_SIMD
