// The kernels of inference.h for one vector set.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>

#include "common/small_gemm_simd.h"
#include "conv/epilogue_simd.h"
#include "inference/inference.h"

namespace caffe_compat::CAFFE_COMPAT_SIMD {
namespace inference {

constexpr int kLanes = Floats::kLanes;

// Calls body(first channel, channels here, whether that is a whole vector as a constant).
template <typename Body>
CAFFE_COMPAT_SIMD_INLINE void for_each_vector(int64_t channels, const Body& body) {
  int64_t c = 0;
  for (; c + kLanes <= channels; c += kLanes) body(c, kLanes, std::true_type());
  if (c < channels) body(c, static_cast<int>(channels - c), std::false_type());
}

template <bool whole>
CAFFE_COMPAT_SIMD_INLINE Floats load_some(const float* from, int count) {
  return whole ? Floats::load(from) : Floats::load(from, count);
}

// ---- direct convolution -------------------------------------------------------------------------
//
// A run of output pixels whose input pixels lie at one distance is the rows of a matrix; for a 1x1
// kernel of stride 1 all pixels are one run, else a row of the image is.  For each tap (or, with
// dense pixels, each row of the kernel, whose numbers lie side by side) channels are the depth.

inline int64_t packed_size(int64_t outputs, int64_t groups, int64_t depth) {
  return groups * ColumnPanels(outputs / groups).columns() * depth;
}

// (group, panel of outputs, tap, channel, column of the panel), zeros behind the last output.
inline void pack_weights(const float* weight, int64_t outputs, int64_t groups, int64_t channels,
                         int64_t taps, float* packed) {
  const int64_t group_outputs = outputs / groups, depth = channels * taps;
  const ColumnPanels panels(group_outputs);
  for (int64_t group = 0; group < groups; ++group) {
    for (int64_t panel = 0; panel < panels.count(); ++panel) {
      const int64_t first = panels.first_column(panel), width = panels.width(panel) * kLanes;
      for (int64_t o = first; o < first + width; ++o) {
        const float* from = weight + (group * group_outputs + o) * depth;
        for (int64_t tap = 0; tap < taps; ++tap) {
          for (int64_t c = 0; c < channels; ++c) {
            packed[(tap * channels + c) * width + o - first] =
                o < group_outputs ? from[c * taps + tap] : 0.f;
          }
        }
      }
      packed += width * depth;
    }
  }
}

struct DirectPlan {
  int64_t run;    // output pixels of a run
  int64_t runs;   // of all images
  int64_t block;  // pixels of a task: a part of the only run, or some whole runs
  int64_t blocks, panels;
  int64_t parts_h, parts_w, depth;  // a sum is cut into parts_h * parts_w of `depth`
};

inline DirectPlan plan_direct(const DirectConv& p, int threads) {
  // The input of a block, in numbers: it stays in a core's L2 cache while the weights pass by.
  constexpr int64_t kCacheNumbers = 96 << 10;
  DirectPlan plan;
  const Window& w = p.window;
  const bool point = w.is_point();
  plan.run = point ? p.out.pixels() : p.out.width;
  plan.runs = point ? 1 : p.out.batch * p.out.height;
  plan.panels = ColumnPanels(p.group_outputs()).count() * p.groups;
  const bool side_by_side =
      w.kernel_w > 1 && w.dilation_w == 1 && p.groups == 1 && p.in.stride == p.in.channels;
  plan.parts_h = w.kernel_h;
  plan.parts_w = side_by_side ? 1 : w.kernel_w;
  plan.depth = p.group_channels() * (side_by_side ? w.kernel_w : 1);
  const int64_t pixel = p.in.channels * w.stride_h * w.stride_w;
  int64_t most = std::max<int64_t>(kCacheNumbers / std::max<int64_t>(pixel, 1), kTileRows);
  // Enough tasks that all threads have as much to do.
  if (plan.panels < 8 * threads) {
    const int64_t wanted = (8 * threads + plan.panels - 1) / plan.panels;
    most = std::min(most, std::max<int64_t>(p.out.pixels() / wanted, 4 * kTileRows));
  }
  if (point) {
    // Blocks of nearly the same size, of whole tiles.
    const int64_t number = (plan.run + most - 1) / most, each = (plan.run + number - 1) / number;
    plan.block = (each + kTileRows - 1) / kTileRows * kTileRows;
    plan.blocks = (plan.run + plan.block - 1) / plan.block;
  } else {
    plan.block = std::max<int64_t>(most / std::max<int64_t>(plan.run, 1), 1);
    plan.blocks = (plan.runs + plan.block - 1) / plan.block;
  }
  return plan;
}

inline int64_t direct_tasks(const DirectConv& p, int threads) {
  const DirectPlan plan = plan_direct(p, threads);
  return plan.blocks * plan.panels;
}

// A register tile's place in a run.
struct TileArguments {
  const float *a, *b;
  int64_t a_row, a_part_h, a_part_w;
  int64_t pixel, output, columns;  // columns: outputs that are there
  const float* next;               // weights to fetch meanwhile; null for none
};

// Numbers of the weights that are fetched before they are needed.
constexpr int64_t kAhead = 512;

// RegisterTile::add_product for a_step 1 and dense rows of b, which also brings a vector of `next`
// into the L2 cache at each step.
template <int rows, int vectors>
CAFFE_COMPAT_SIMD_INLINE void add_product_and_fetch(RegisterTile<rows, vectors>& tile,
                                                    const float* a, int64_t a_row, const float* b,
                                                    int64_t depth, const float* next) {
  for (int64_t d = 0; d < depth; ++d) {
    Floats row[vectors];
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) row[v] = Floats::load(b + v * kLanes);
    _mm_prefetch(next, _MM_HINT_T1);
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) {
      const Floats number = Floats::all(a[r * a_row]);
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) {
        tile.at[r][v] = multiply_add(number, row[v], tile.at[r][v]);
      }
    }
    ++a;
    b += vectors * kLanes;
    next += kLanes;
  }
}

template <int rows, int vectors>
void direct_tile(const DirectConv& p, const DirectPlan& plan, const TileArguments& t) {
  constexpr int64_t b_step = vectors * kLanes;
  RegisterTile<rows, vectors> tile;
  tile.clear();
  const float* b = t.b;
  for (int64_t i = 0; i < plan.parts_h; ++i) {
    for (int64_t j = 0; j < plan.parts_w; ++j) {
      const float* a = t.a + i * t.a_part_h + j * t.a_part_w;
      if (t.next) {
        add_product_and_fetch(tile, a, t.a_row, b, plan.depth, t.next + (b - t.b) / vectors);
      } else {
        tile.template add_product<kAhead>(a, t.a_row, 1, b, b_step, plan.depth);
      }
      b += plan.depth * b_step;
    }
  }
  float* to = p.out.data + t.pixel * p.out.stride + t.output;
#pragma GCC unroll 4
  for (int v = 0; v < vectors; ++v) {
    const int64_t left = t.columns - v * kLanes, output = t.output + v * kLanes;
    if (left >= kLanes) {
      const Finish<true> finish(p.epilogue, output, kLanes);
#pragma GCC unroll 16
      for (int r = 0; r < rows; ++r) {
        finish(tile.at[r][v], t.pixel + r).store(to + r * p.out.stride + v * kLanes);
      }
    } else if (left > 0) {
      const int count = static_cast<int>(left);
      const Finish<false> finish(p.epilogue, output, count);
#pragma GCC unroll 16
      for (int r = 0; r < rows; ++r) {
        finish(tile.at[r][v], t.pixel + r).store(to + r * p.out.stride + v * kLanes, count);
      }
    }
  }
}

template <int vectors, int... rows>
void direct_rows(const DirectConv& p, const DirectPlan& plan, TileArguments t, int64_t count,
                 std::integer_sequence<int, rows...>) {
  using Function = void (*)(const DirectConv&, const DirectPlan&, const TileArguments&);
  static constexpr Function functions[] = {direct_tile<rows + 1, vectors>...};
  constexpr int64_t most = sizeof...(rows);
  for (int64_t left = (count + most - 1) / most; left > 0; --left) {
    const int64_t now = (count + left - 1) / left;
    functions[now - 1](p, plan, t);
    t.a += now * t.a_row;
    t.pixel += now;
    if (t.next) {
      // A tile fetches one vector of each row of the next panel.
      t.next += plan.parts_h * plan.parts_w * plan.depth * kLanes;
      if (t.next >= t.b + 2 * plan.parts_h * plan.parts_w * plan.depth * vectors * kLanes) {
        t.next = nullptr;
      }
    }
    count -= now;
  }
}

inline void direct(const DirectConv& p, int threads, TaskRange tasks) {
  const DirectPlan plan = plan_direct(p, threads);
  const Window& w = p.window;
  const ColumnPanels panels(p.group_outputs());
  const int64_t group_depth = p.group_channels() * w.taps();
  for (int64_t task = tasks.first; task < tasks.last; ++task) {
    const int64_t block = task / plan.panels, number = task % plan.panels;
    const int64_t group = number / panels.count(), panel = number % panels.count();
    const int64_t first = panels.first_column(panel);
    const int vectors = panels.width(panel);
    TileArguments t{};
    t.b = p.packed + (group * panels.columns() + first) * group_depth;
    t.a_row = p.in.stride * w.stride_w;
    t.a_part_h = p.in.stride * p.in.width * w.dilation_h;
    t.a_part_w = p.in.stride * w.dilation_w;
    t.output = group * p.group_outputs() + first;
    t.columns = std::min<int64_t>(vectors * kLanes, p.group_outputs() - first);
    const auto multiply = [&](int64_t count) {
      switch (vectors) {
        case 1:
          return direct_rows<1>(p, plan, t, count, std::make_integer_sequence<int, tile_rows(1)>());
        case 2:
          return direct_rows<2>(p, plan, t, count, std::make_integer_sequence<int, tile_rows(2)>());
        default:
          return direct_rows<3>(p, plan, t, count, std::make_integer_sequence<int, tile_rows(3)>());
      }
    };
    const float* image = p.in.data + group * p.group_channels();
    if (w.is_point()) {
      // Weights of few pixels come from memory: those of the next panel while this one is used.
      if (plan.blocks <= 2 && task + 1 < tasks.last) {
        t.next = t.b + group_depth * vectors * kLanes;
      }
      t.pixel = block * plan.block;
      t.a = image + t.pixel * p.in.stride;
      multiply(std::min(plan.block, plan.run - t.pixel));
      continue;
    }
    const int64_t end = std::min((block + 1) * plan.block, plan.runs);
    for (int64_t run = block * plan.block; run < end; ++run) {
      const int64_t n = run / p.out.height, y = run % p.out.height;
      t.pixel = run * plan.run;
      t.a = image + (n * p.in.height + y * w.stride_h) * p.in.width * p.in.stride;
      multiply(plan.run);
    }
  }
}

// ---- windows of one channel ---------------------------------------------------------------------

// The taps inside the input of the window at `i`.
struct Taps {
  int64_t first, last;
};
inline Taps taps_inside(int64_t start, int64_t kernel, int64_t dilation, int64_t size) {
  const int64_t first = start >= 0 ? 0 : (-start + dilation - 1) / dilation;
  const int64_t last = start >= size ? 0 : (size - start + dilation - 1) / dilation;
  return {std::min(first, kernel), std::min(kernel, last)};
}

// Output pixels of a row whose windows lie inside the input.
inline Taps inner_columns(const Image& in, const Image& out, const Window& w) {
  const int64_t extent = (w.kernel_w - 1) * w.dilation_w + 1;
  const int64_t first = (w.pad_w + w.stride_w - 1) / w.stride_w;
  const int64_t room = in.width + w.pad_w - extent;
  const int64_t last = room < 0 ? 0 : std::min(out.width, room / w.stride_w + 1);
  return {std::min(first, last), last};
}

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
  float* to = p.out.data + pixel * p.out.stride + c;
#pragma GCC unroll 4
  for (int x = 0; x < pixels; ++x) {
    store_some<whole>(finish(sums[x], pixel + x), to + x * p.out.stride, count);
  }
}

// ---- depthwise 3x3 of dilation 1, stride 1 or 2
// ---------------------------------------------------
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
  int64_t n, first_row, c;
  int count;
  Floats taps[9];
  Finish<whole> finish;

  CAFFE_COMPAT_SIMD_INLINE Depthwise3x3(const DepthwiseConv& conv, int64_t image, int64_t row,
                                        int64_t channel, int lanes)
      : p(conv),
        n(image),
        first_row(row),
        c(channel),
        count(lanes),
        finish(conv.epilogue, channel, lanes) {
#pragma GCC unroll 9
    for (int tap = 0; tap < 9; ++tap) {
      taps[tap] = load_some<whole>(p.weight + tap * p.in.channels + c, count);
    }
  }

  template <bool edge>
  CAFFE_COMPAT_SIMD_INLINE void tile(int64_t column) const {
    const int64_t y = first_row * stride - p.window.pad_h;
    const int64_t x = column * stride - p.window.pad_w;
    const float* from = p.in.data + ((n * p.in.height + y) * p.in.width + x) * p.in.stride + c;
    Floats sums[kDepthwiseRows][kDepthwiseColumns];
#pragma GCC unroll 4
    for (int v = 0; v < kDepthwiseColumns; ++v) {
#pragma GCC unroll 2
      for (int u = 0; u < kDepthwiseRows; ++u) sums[u][v] = Floats::zero();
    }
#pragma GCC unroll 5
    for (int i = 0; i < kInputRows; ++i) {
      if (edge && (y + i < 0 || y + i >= p.in.height)) continue;
      const float* row = from + i * p.in.width * p.in.stride;
#pragma GCC unroll 9
      for (int j = 0; j < kInputColumns; ++j) {
        if (edge && (x + j < 0 || x + j >= p.in.width)) continue;
        const Floats number = held(load_some<whole>(row + j * p.in.stride, count));
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
#pragma GCC unroll 2
    for (int u = 0; u < kDepthwiseRows; ++u) {
      if (edge && first_row + u >= p.out.height) continue;
      const int64_t pixel = (n * p.out.height + first_row + u) * p.out.width + column;
#pragma GCC unroll 4
      for (int v = 0; v < kDepthwiseColumns; ++v) {
        if (edge && column + v >= p.out.width) continue;
        store_some<whole>(finish(sums[u][v], pixel + v),
                          p.out.data + (pixel + v) * p.out.stride + c, count);
      }
    }
  }
};

template <int stride>
void depthwise_3x3(const DepthwiseConv& p, int64_t n, int64_t row) {
  using Tile = Depthwise3x3<stride, true>;
  const int64_t y = row * stride - p.window.pad_h;
  const bool inside =
      y >= 0 && y + Tile::kInputRows <= p.in.height && row + kDepthwiseRows <= p.out.height;
  for (int64_t column = 0; column < p.out.width; column += kDepthwiseColumns) {
    const int64_t x = column * stride - p.window.pad_w;
    if (inside && x >= 0 && x + Tile::kInputColumns <= p.in.width &&
        column + kDepthwiseColumns <= p.out.width) {
      for_each_vector(p.in.channels, [&](int64_t c, int count, auto whole) {
        Depthwise3x3<stride, whole>(p, n, row, c, count).template tile<false>(column);
      });
    } else {
      for_each_vector(p.in.channels, [&](int64_t c, int count, auto whole) {
        Depthwise3x3<stride, whole>(p, n, row, c, count).template tile<true>(column);
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

inline void depthwise(const DepthwiseConv& p, TaskRange tasks) {
  const Window& w = p.window;
  const bool small = w.kernel_h == 3 && w.kernel_w == 3 && w.dilation_h == 1 && w.dilation_w == 1 &&
                     w.stride_h == w.stride_w;
  const int64_t pairs = (p.out.height + kDepthwiseRows - 1) / kDepthwiseRows;
  for (int64_t task = tasks.first; task < tasks.last; ++task) {
    const int64_t n = task / pairs, row = task % pairs * kDepthwiseRows;
    if (small && w.stride_h == 1) {
      depthwise_3x3<1>(p, n, row);
    } else if (small && w.stride_h == 2) {
      depthwise_3x3<2>(p, n, row);
    } else {
      const int64_t end = std::min<int64_t>(row + kDepthwiseRows, p.out.height);
      for (int64_t y = row; y < end; ++y) depthwise_row(p, n, y);
    }
  }
}

// ---- pooling ------------------------------------------------------------------------------------

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

inline void pointwise(const Pointwise& p, TaskRange pixels) {
  const Floats first_factor = Floats::all(p.first_factor);
  const Floats second_factor = Floats::all(p.second_factor);
  for (int64_t pixel = pixels.first; pixel < pixels.last; ++pixel) {
    const float* first = p.first.data + pixel * p.first.stride;
    const float* second = p.second + pixel * p.second_stride;
    float* to = p.out.data + pixel * p.out.stride;
    for_each_vector(p.out.channels, [&](int64_t c, int count, auto whole) {
      Floats value = load_some<whole>(first + c, count);
      if (p.first_factor != 1) value = value * first_factor;
      if (p.second) {
        value = multiply_add(load_some<whole>(second + c, count), second_factor, value);
      }
      if (p.scale) value = value * load_some<whole>(p.scale + c, count);
      store_some<whole>(Finish<whole>(p.epilogue, c, count)(value, pixel), to + c, count);
    });
  }
}

// ---- inner product ------------------------------------------------------------------------------
//
// For few items: each weight is read once, in long runs, and its time is that of the memory.

constexpr int kMostItems = 4;       // at a time
constexpr int kProductOutputs = 8;  // of a task

template <int items, int outputs>
void product_tile(const Product& p, int64_t item, int64_t output) {
  Floats sums[outputs][items];
#pragma GCC unroll 8
  for (int o = 0; o < outputs; ++o) {
#pragma GCC unroll 8
    for (int i = 0; i < items; ++i) sums[o][i] = Floats::zero();
  }
  const float* x = p.x + item * p.inputs;
  const float* weight = p.weight + output * p.inputs;
  const auto step = [&](int64_t k, int count, auto whole) __attribute__((always_inline)) {
    Floats numbers[items];
#pragma GCC unroll 8
    for (int i = 0; i < items; ++i) numbers[i] = load_some<whole>(x + i * p.inputs + k, count);
#pragma GCC unroll 8
    for (int o = 0; o < outputs; ++o) {
      const float* from = weight + o * p.inputs + k;
      _mm_prefetch(from + 512, _MM_HINT_T0);
      const Floats row = load_some<whole>(from, count);
#pragma GCC unroll 8
      for (int i = 0; i < items; ++i) sums[o][i] = multiply_add(row, numbers[i], sums[o][i]);
    }
  };
  for_each_vector(p.inputs, step);
  for (int i = 0; i < items; ++i) {
    float numbers[kProductOutputs];
    for (int o = 0; o < outputs; ++o) numbers[o] = sums[o][i].sum();
    for (int o = 0; o < outputs; o += kLanes) {
      const int count = std::min(outputs - o, kLanes);
      const Finish<false> finish(p.epilogue, output + o, count);
      finish(Floats::load(numbers + o, count), item + i)
          .store(p.out + (item + i) * p.out_stride + output + o, count);
    }
  }
}

template <int outputs>
void product_items(const Product& p, int64_t output) {
  for (int64_t item = 0; item < p.batch;) {
    switch (std::min<int64_t>(p.batch - item, kMostItems)) {
      case 1:
        product_tile<1, outputs>(p, item, output);
        item += 1;
        break;
      case 2:
        product_tile<2, outputs>(p, item, output);
        item += 2;
        break;
      case 3:
        product_tile<3, outputs>(p, item, output);
        item += 3;
        break;
      default:
        product_tile<4, outputs>(p, item, output);
        item += 4;
    }
  }
}

inline int64_t product_tasks(const Product& p) {
  return (p.outputs + kProductOutputs - 1) / kProductOutputs;
}

inline void product(const Product& p, TaskRange tasks) {
  constexpr int kSome =
      kMostItems * kProductOutputs > kTileRows * 2 ? kProductOutputs / 2 : kProductOutputs;
  for (int64_t task = tasks.first; task < tasks.last; ++task) {
    int64_t output = task * kProductOutputs;
    const int64_t end = std::min(output + kProductOutputs, p.outputs);
    if (p.batch == 1 && end - output == kProductOutputs) {
      product_tile<1, kProductOutputs>(p, 0, output);
      continue;
    }
    for (; output + kSome <= end; output += kSome) product_items<kSome>(p, output);
    for (; output < end; ++output) product_items<1>(p, output);
  }
}

constexpr InferenceKernels kKernels = {.packed_size = packed_size,
                                       .pack_weights = pack_weights,
                                       .direct_tasks = direct_tasks,
                                       .direct = direct,
                                       .depthwise_tasks = depthwise_tasks,
                                       .depthwise = depthwise,
                                       .pool = pool,
                                       .pointwise = pointwise,
                                       .product_tasks = product_tasks,
                                       .product = product};

}  // namespace inference
}  // namespace caffe_compat::CAFFE_COMPAT_SIMD
