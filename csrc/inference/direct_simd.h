// Convolution as a matrix product of the image as it lies.  Include after common/simd.h.
//
// A run of output pixels whose input pixels lie at one distance is the rows of a matrix; for a 1x1
// kernel of stride 1 all pixels are one run, else a row of the image is.  For each tap (or, with
// dense pixels, each row of the kernel, whose numbers lie side by side) channels are the depth.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>

#include "common/small_gemm_simd.h"
#include "common/vectors_simd.h"
#include "conv/epilogue_simd.h"
#include "inference/inference.h"

namespace caffe_compat::CAFFE_COMPAT_SIMD {
namespace inference {

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
  bool few_weights;                 // a task has all panels
  int64_t parts_h, parts_w, depth;  // a sum is cut into parts_h * parts_w of `depth`
};

// Weights of several panels, so few that all stay in the L1 cache beside a tile: each tile of
// pixels meets them all, and its outputs are written side by side.
inline bool has_few_weights(const DirectConv& p) {
  constexpr int64_t kFewWeights = 6 << 10;
  const ColumnPanels panels(p.out.channels);
  return panels.count() > 1 && p.in.channels * panels.columns() <= kFewWeights;
}

inline DirectPlan plan_direct(const DirectConv& p, int threads) {
  // The input of a block, in numbers: it stays in a core's L2 cache while the weights pass by.
  constexpr int64_t kCacheNumbers = 96 << 10;
  DirectPlan plan;
  const Window& w = p.window;
  const bool point = w.is_point();
  plan.run = point ? p.out.pixels() : p.out.width;
  plan.runs = point ? 1 : p.out.batch * p.out.height;
  plan.panels = ColumnPanels(p.group_outputs()).count() * p.groups;
  plan.few_weights = point && p.groups == 1 && has_few_weights(p);
  if (plan.few_weights) plan.panels = 1;
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

// So many products are summed up before they are added to those before: the rounding errors of one
// long sum would be larger.
constexpr int64_t kSummands = 256;

// Numbers of the weights that are fetched before they are needed.
constexpr int64_t kAhead = 512;

CAFFE_COMPAT_SIMD_INLINE Floats load_bias(const Epilogue& end, const TileArguments& t,
                                          int64_t column) {
  if (!end.bias || column >= t.columns) return Floats::zero();
  const float* from = end.bias + t.output + column;
  const int64_t left = t.columns - column;
  return left >= kLanes ? Floats::load(from) : Floats::load(from, static_cast<int>(left));
}

// make_finish(first output, outputs, whether they are a whole vector as a constant) gives what
// makes outputs of sums.
template <int rows, int vectors, typename MakeFinish>
CAFFE_COMPAT_SIMD_INLINE void store_tile(const DirectConv& p, const TileArguments& t,
                                         const RegisterTile<rows, vectors>& tile,
                                         const MakeFinish& make_finish) {
  float* to = p.out.data + t.pixel * p.out.stride + t.output;
#pragma GCC unroll 4
  for (int v = 0; v < vectors; ++v) {
    const int64_t left = t.columns - v * kLanes, output = t.output + v * kLanes;
    if (left >= kLanes) {
      const auto finish = make_finish(output, kLanes, std::true_type());
#pragma GCC unroll 16
      for (int r = 0; r < rows; ++r) {
        finish(tile.at[r][v], t.pixel + r).store(to + r * p.out.stride + v * kLanes);
      }
    } else if (left > 0) {
      const int count = static_cast<int>(left);
      const auto finish = make_finish(output, count, std::false_type());
#pragma GCC unroll 16
      for (int r = 0; r < rows; ++r) {
        finish(tile.at[r][v], t.pixel + r).store(to + r * p.out.stride + v * kLanes, count);
      }
    }
  }
}

template <int rows, int vectors>
void direct_tile(const DirectConv& p, const DirectPlan& plan, const TileArguments& t) {
  constexpr int64_t b_step = vectors * kLanes;
  RegisterTile<rows, vectors> tile;
#pragma GCC unroll 4
  for (int v = 0; v < vectors; ++v) {
    const Floats bias = load_bias(p.epilogue, t, v * kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) tile.at[r][v] = bias;
  }
  alignas(64) float memory[rows * b_step];
  float* sums = memory;
  asm("" : "+r"(sums) : : "memory");  // the compiler would keep them in registers, and the rest not
  bool cut = false;
  int64_t summands = 0;
  const float* b = t.b;
  for (int64_t i = 0; i < plan.parts_h; ++i) {
    for (int64_t j = 0; j < plan.parts_w; ++j) {
      const float* a = t.a + i * t.a_part_h + j * t.a_part_w;
      for (int64_t left = plan.depth; left > 0;) {
        if (summands == kSummands) {
          if (cut) tile.add_from(sums, b_step);
          tile.store(sums, b_step);
          tile.clear();
          cut = true;
          summands = 0;
        }
        const int64_t depth = std::min(left, kSummands - summands);
        if (t.next) {
          const float* next = t.next + (b - t.b) / vectors;
          tile.add_dense_product(a, t.a_row, b, depth,
                                 [&](const float*) __attribute__((always_inline)) {
                                   _mm_prefetch(next, _MM_HINT_T1);
                                   next += kLanes;
                                 });
        } else {
          tile.add_dense_product(a, t.a_row, b, depth,
                                 [](const float* row) __attribute__((always_inline)) {
                                   for (int c = 0; c < b_step; c += 16) {
                                     _mm_prefetch(row + kAhead + c, _MM_HINT_T0);
                                   }
                                 });
        }
        a += depth;
        b += depth * b_step;
        left -= depth;
        summands += depth;
      }
    }
  }
  if (cut) tile.add_from(sums, b_step);
  if (p.epilogue.add || p.epilogue.slopes || p.epilogue.ceiling < __builtin_inff()) {
    Epilogue end = p.epilogue;
    end.bias = nullptr;
    store_tile(p, t, tile, [&](int64_t output, int count, auto whole) {
      return Finish<whole>(end, output, count);
    });
  } else {
    const Floats floor = Floats::all(p.epilogue.floor);
    store_tile(p, t, tile, [&](int64_t, int, auto) {
      return [floor](Floats value, int64_t) { return max(floor, value); };
    });
  }
}

template <int vectors, int... rows>
void direct_rows(const DirectConv& p, const DirectPlan& plan, TileArguments t, int64_t count,
                 std::integer_sequence<int, rows...>) {
  using Function = void (*)(const DirectConv&, const DirectPlan&, const TileArguments&);
  static constexpr Function functions[] = {direct_tile<rows + 1, vectors>...};
  constexpr int64_t most = sizeof...(rows);
  // Tiles of nearly equal size, the larger ones first.
  const int64_t tiles = (count + most - 1) / most, small = count / tiles;
  const int64_t panel = plan.parts_h * plan.parts_w * plan.depth * kLanes;
  int fetched = 0;
  const auto run = [&](int64_t times, int64_t now) {
    for (; times > 0; --times) {
      functions[now - 1](p, plan, t);
      t.a += now * t.a_row;
      t.pixel += now;
      if (t.next) {
        // A tile fetches one vector of each row of the next panel.
        t.next = ++fetched < vectors ? t.next + panel : nullptr;
      }
    }
  };
  const int64_t larger = count - tiles * small;
  run(larger, small + 1);
  run(tiles - larger, small);
}

// `count` rows by a panel of so many vectors.
inline void direct_panel(const DirectConv& p, const DirectPlan& plan, const TileArguments& t,
                         int64_t count, int vectors) {
  switch (vectors) {
    case 1:
      return direct_rows<1>(p, plan, t, count, std::make_integer_sequence<int, tile_rows(1)>());
    case 2:
      return direct_rows<2>(p, plan, t, count, std::make_integer_sequence<int, tile_rows(2)>());
    default:
      return direct_rows<3>(p, plan, t, count, std::make_integer_sequence<int, tile_rows(3)>());
  }
}

// Pixels [pixel, end), whose first row is `a`, by all panels, tile by tile.
inline void direct_all_panels(const DirectConv& p, const DirectPlan& plan, const float* a,
                              int64_t a_row, int64_t pixel, int64_t end) {
  const ColumnPanels panels(p.out.channels);
  TileArguments t{};
  t.a = a;
  t.a_row = a_row;
  for (t.pixel = pixel; t.pixel < end; t.pixel += kTileRows, t.a += kTileRows * a_row) {
    const int64_t rows = std::min<int64_t>(end - t.pixel, kTileRows);
    for (int64_t panel = 0; panel < panels.count(); ++panel) {
      const int vectors = panels.width(panel);
      t.output = panels.first_column(panel);
      t.columns = std::min<int64_t>(vectors * kLanes, p.out.channels - t.output);
      t.b = p.packed + t.output * plan.depth;
      if (rows == kTileRows && vectors == kTileVectors) {
        direct_tile<kTileRows, kTileVectors>(p, plan, t);  // without the search for a function
      } else {
        direct_panel(p, plan, t, rows, vectors);
      }
    }
  }
}

inline void direct(const DirectConv& p, int threads, TaskRange tasks) {
  const DirectPlan plan = plan_direct(p, threads);
  const Window& w = p.window;
  const ColumnPanels panels(p.group_outputs());
  const int64_t group_depth = p.group_channels() * w.taps();
  if (plan.few_weights) {
    for (int64_t task = tasks.first; task < tasks.last; ++task) {
      const int64_t first = task * plan.block, end = std::min(first + plan.block, plan.run);
      direct_all_panels(p, plan, p.in.data + first * p.in.stride, p.in.stride, first, end);
    }
    return;
  }
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
    const float* image = p.in.data + group * p.group_channels();
    if (w.is_point()) {
      // Weights of few pixels come from memory: those of the next panel while this one is used.
      if (plan.blocks <= 2 && task + 1 < plan.blocks * plan.panels) {
        t.next = t.b + group_depth * vectors * kLanes;
      }
      t.pixel = block * plan.block;
      t.a = image + t.pixel * p.in.stride;
      direct_panel(p, plan, t, std::min(plan.block, plan.run - t.pixel), vectors);
      continue;
    }
    const int64_t end = std::min((block + 1) * plan.block, plan.runs);
    for (int64_t run = block * plan.block; run < end; ++run) {
      const int64_t n = run / p.out.height, y = run % p.out.height;
      t.pixel = run * plan.run;
      t.a = image + (n * p.in.height + y * w.stride_h) * p.in.width * p.in.stride;
      direct_panel(p, plan, t, plan.run, vectors);
    }
  }
}

}  // namespace inference
}  // namespace caffe_compat::CAFFE_COMPAT_SIMD
