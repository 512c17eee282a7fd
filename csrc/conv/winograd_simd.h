// The kernels of winograd.h for one vector set.
//
// Vector lanes are channels.  A block of tiles goes through all three steps of the picture in
// winograd.h inside a core's L2 cache.  In memory:
//
//   transformed input     (position, tile of the block, channel)
//   transformed weights   (group, panel of outputs, position, channel, column of the panel)
//   products              (position, tile of the block, column of the panel), one panel at a time
//
//        one position:        channels           columns of a panel     columns
//                         t +----------+        +---------+         t +---------+
//                         i |  input   |   x  c |         |    =    i |products |
//                         l |          |      h | weights |         l |         |
//                         e |          |      a |         |         e |         |
//                         s +----------+      n +---------+         s +---------+
#pragma once

#include <algorithm>
#include <cstdint>

#include "common/simd_level.h"
#include "common/small_gemm_simd.h"
#include "common/vectors_simd.h"
#include "conv/epilogue_simd.h"
#include "conv/winograd.h"
#include "conv/winograd_matrices.h"

namespace caffe_compat::CAFFE_COMPAT_SIMD {

// Numbers between matrices whose size is a power of two: without them all matrices would start in
// the same set of the cache, and drive each other out of it.
constexpr int64_t kSkew = 16;

template <int count, typename Body>
CAFFE_COMPAT_SIMD_INLINE void unrolled(const Body& body) {
  [&]<int... i>(std::integer_sequence<int, i...>) __attribute__((always_inline)) {
    (body(std::integral_constant<int, i>()), ...);
  }(std::make_integer_sequence<int, count>());
}

// A row of a matrix, known when compiled, times a column of vectors; zeros and ones cost nothing.
template <const auto& matrix, int row, int k, int count, bool started = false>
CAFFE_COMPAT_SIMD_INLINE Floats dot(Floats sum, const Floats* column) {
  if constexpr (k == count) {
    return sum;
  } else {
    constexpr float factor = matrix.at[row][k];
    if constexpr (factor == 0) {
      return dot<matrix, row, k + 1, count, started>(sum, column);
    } else if constexpr (!started) {
      const Floats first = factor == 1 ? column[k] : Floats::all(factor) * column[k];
      return dot<matrix, row, k + 1, count, true>(first, column);
    } else if constexpr (factor == 1) {
      return dot<matrix, row, k + 1, count, true>(sum + column[k], column);
    } else if constexpr (factor == -1) {
      return dot<matrix, row, k + 1, count, true>(sum - column[k], column);
    } else {
      const Floats next = multiply_add(Floats::all(factor), column[k], sum);
      return dot<matrix, row, k + 1, count, true>(next, column);
    }
  }
}

// out = matrix in matrix^T for `rows` x `columns` matrix; load(i, j), store(i, j, value).
template <const auto& matrix, int rows, int columns, typename Load, typename Store>
CAFFE_COMPAT_SIMD_INLINE void transform(const Load& load, const Store& store) {
  Floats half[rows][columns];
  unrolled<columns>([&](auto j) __attribute__((always_inline)) {
    Floats column[columns];
    unrolled<columns>([&](auto i) __attribute__((always_inline)) { column[i] = load(i, j); });
    unrolled<rows>([&](auto i) __attribute__((always_inline)) {
      half[i][j] = dot<matrix, i, 0, columns>(Floats::zero(), column);
    });
  });
  unrolled<rows>([&](auto i) __attribute__((always_inline)) {
    unrolled<rows>([&](auto j) __attribute__((always_inline)) {
      store(i, j, dot<matrix, j, 0, columns>(Floats::zero(), half[i]));
    });
  });
}

// Row `row` of the same.
template <const auto& matrix, int row, int rows, int columns, typename Load, typename Store>
CAFFE_COMPAT_SIMD_INLINE void transform_row(const Load& load, const Store& store) {
  Floats half[columns];
  unrolled<columns>([&](auto j) __attribute__((always_inline)) {
    Floats column[columns];
    unrolled<columns>([&](auto i) __attribute__((always_inline)) {
      if constexpr (matrix.at[row][i] != 0) column[i] = load(i, j);
    });
    half[j] = dot<matrix, row, 0, columns>(Floats::zero(), column);
  });
  unrolled<rows>([&](auto j) __attribute__((always_inline)) {
    store(j, dot<matrix, j, 0, columns>(Floats::zero(), half));
  });
}

// `size` x `size` pixels of a channels-last image from (top, left) on; outside it pixels of zeros.
template <int size>
struct ImagePatch {
  const float* at[size][size];

  ImagePatch(const float* image, int64_t height, int64_t width, int64_t channels, int64_t top,
             int64_t left, const float* zeros) {
    for (int i = 0; i < size; ++i) {
      for (int j = 0; j < size; ++j) {
        const int64_t y = top + i, x = left + j;
        const bool inside = y >= 0 && y < height && x >= 0 && x < width;
        at[i][j] = inside ? image + (y * width + x) * channels : zeros;
      }
    }
  }
};

template <int m, int r>
struct WinogradSimd {
  using W = Winograd<m, r>;
  using S = const WinogradShape&;
  static constexpr int t = W::kTile, kPositions = t * t;

  // --- transformed weights ---

  static int64_t position_stride(S s, int width) {
    return s.group_channels() * width * kLanes + kSkew;
  }
  static int64_t group_size(S s) {
    const ColumnPanels panels(s.group_outputs());
    return kPositions * (s.group_channels() * panels.columns() + panels.count() * kSkew);
  }
  static int64_t weight_size(S s) { return s.groups * group_size(s); }
  static int64_t panel_offset(S s, const ColumnPanels& panels, int64_t group, int64_t panel) {
    return group * group_size(s) +
           kPositions * (s.group_channels() * panels.first_column(panel) + panel * kSkew);
  }

  static int64_t weight_tasks(S s) {
    return s.groups * ColumnPanels(s.group_outputs()).count() * s.group_channels();
  }

  // Calls body(group, first output, outputs here, channel, position 0, stride between positions)
  // for the vectors of all tasks.
  template <typename T, typename Body>
  static void for_each_weight_vector(S s, T* transformed, TaskRange tasks, const Body& body) {
    const ColumnPanels panels(s.group_outputs());
    for (int64_t task = tasks.first; task < tasks.last; ++task) {
      const int64_t c = task % s.group_channels(), rest = task / s.group_channels();
      const int64_t panel = rest % panels.count(), group = rest / panels.count();
      const int width = panels.width(panel);
      T* to = transformed + panel_offset(s, panels, group, panel) + c * width * kLanes;
      for (int v = 0; v < width; ++v) {
        const int64_t o = panels.first_column(panel) + v * kLanes;
        const int64_t outputs = std::clamp<int64_t>(s.group_outputs() - o, 0, kLanes);
        body(group, o, outputs, c, to + v * kLanes, position_stride(s, width));
      }
    }
  }

  static void transform_weights(S s, const WinogradWeights<const float>& weights,
                                float* transformed, TaskRange tasks) {
    alignas(64) float taps[r * r][kLanes] = {};
    for_each_weight_vector(
        s, transformed, tasks,
        [&](int64_t group, int64_t o, int64_t outputs, int64_t c, float* to, int64_t stride) {
          for (int64_t lane = 0; lane < outputs; ++lane) {
            const float* from = weights.find(group, o + lane, c);
            for (int k = 0; k < r * r; ++k) {
              taps[weights.rotated ? r * r - 1 - k : k][lane] = from[k];
            }
          }
          for (int64_t lane = outputs; lane < kLanes; ++lane) {
            for (int k = 0; k < r * r; ++k) taps[k][lane] = 0;
          }
          transform<W::kWeight, t, r>(
              [&](int i, int j) { return Floats::load(taps[i * r + j]); },
              [&](int i, int j, Floats value) { value.store(to + (i * t + j) * stride); });
        });
  }

  static void weight_grad(S s, const float* sums, int64_t count,
                          const WinogradWeights<float>& weights, TaskRange tasks) {
    alignas(64) float taps[r * r][kLanes];
    const int64_t size = weight_size(s);
    for_each_weight_vector(s, sums, tasks,
                           [&](int64_t group, int64_t o, int64_t outputs, int64_t c,
                               const float* from, int64_t stride) {
                             transform<W::kWeightGrad, r, t>(
                                 [&](int i, int j) {
                                   const float* position = from + (i * t + j) * stride;
                                   Floats sum = Floats::load(position);
                                   for (int64_t k = 1; k < count; ++k)
                                     sum = sum + Floats::load(position + k * size);
                                   return sum;
                                 },
                                 [&](int i, int j, Floats value) { value.store(taps[i * r + j]); });
                             for (int64_t lane = 0; lane < outputs; ++lane) {
                               float* to = weights.find(group, o + lane, c);
                               for (int k = 0; k < r * r; ++k) to[k] = taps[k][lane];
                             }
                           });
  }

  // --- output ---

  // Products of so many channels are summed up before they are added to those of the channels
  // before: the rounding errors of one long sum would be larger, and the transform multiplies them.
  static constexpr int64_t kSummands = 128;

  static int64_t panel_columns(S s) {
    const ColumnPanels panels(s.group_outputs());
    return panels.width(panels.count() - 1) * kLanes;  // the last is the widest
  }

  // Whether the weights of a group take so much of a core's L2 cache that each block reads them
  // from behind it.
  static bool has_large_weights(S s) { return group_size(s) > l2_cache_numbers() / 4; }

  // As many tiles as fill about half of a core's L2 cache; of few tiles as many as make blocks of
  // one size for all threads.  With large weights, few blocks, as large as the cache allows.
  static int64_t block_tiles(S s) {
    constexpr int64_t kCacheNumbers = 160 << 10;
    const int64_t row = kPositions * (s.group_channels() + panel_columns(s));
    if (has_large_weights(s)) {
      const int64_t cache = std::max(l2_cache_numbers() * 7 / 10, kCacheNumbers);
      const int64_t most = std::max<int64_t>(cache / row, kTileRows);
      const int64_t wanted = std::max<int64_t>((s.tiles() + most - 1) / most, 1);
      return (s.tiles() + wanted - 1) / wanted;
    }
    const int64_t most = std::max<int64_t>(1, kCacheNumbers / row / kTileRows) * kTileRows;
    const int64_t wanted = (s.tiles() + most - 1) / most;
    const int64_t even = (wanted + s.threads - 1) / s.threads * s.threads;
    const int64_t each = (s.tiles() + even - 1) / std::max<int64_t>(even, 1);
    return std::min(each >= kTileRows ? each : most, s.tiles());
  }
  static int64_t blocks(S s) {
    const int64_t block = block_tiles(s);
    return block == 0 ? 0 : (s.tiles() + block - 1) / block;
  }
  // Tasks of a block, each for some panels of outputs: more than one where there are fewer blocks
  // than threads, or few that the threads cannot share evenly.  Each transforms the input anew,
  // which is a small part of a few panels' work.
  static int64_t parts(S s) {
    constexpr int64_t kFewestPanels = 2, kMany = 4;
    const int64_t there = std::max<int64_t>(s.groups * blocks(s), 1);
    const int64_t panels = ColumnPanels(s.group_outputs()).count();
    const int64_t most = std::max<int64_t>(panels / kFewestPanels, 1);
    int64_t count = std::clamp<int64_t>((s.threads + there - 1) / there, 1, most);
    if (has_large_weights(s)) {
      while (count < most && there * count < kMany * s.threads && there * count % s.threads) {
        ++count;
      }
    }
    return count;
  }
  static int64_t output_tasks(S s) { return s.groups * blocks(s) * parts(s); }
  static int64_t input_stride(S s) { return block_tiles(s) * s.group_channels() + kSkew; }
  static int64_t product_stride(S s) { return block_tiles(s) * panel_columns(s) + kSkew; }
  static int64_t output_scratch(S s) {
    return s.group_channels() + kPositions * (input_stride(s) + product_stride(s)) + 3 * kSkew;
  }

  static void transform_input(S s, const float* input, int64_t pixel_stride, int64_t group,
                              TaskRange tiles, const float* zeros, float* out) {
    const int64_t channels = s.group_channels(), stride = input_stride(s);
    for (int64_t tile = tiles.first; tile < tiles.last; ++tile) {
      const int64_t x = tile % s.tiles_w(), y = tile / s.tiles_w() % s.tiles_h();
      const int64_t n = tile / (s.tiles_w() * s.tiles_h());
      const ImagePatch<t> pixels(input + n * s.height * s.width * pixel_stride + group * channels,
                                 s.height, s.width, pixel_stride, y * m - s.pad_h, x * m - s.pad_w,
                                 zeros);
      float* to = out + (tile - tiles.first) * channels;
      for_each_vector(channels, [&](int64_t c, int count, auto whole) {
        transform<W::kInput, t, t>(
            [&](int i, int j) __attribute__((always_inline)) {
              // The columns that the next tile adds.
              if (j >= r - 1) _mm_prefetch(pixels.at[i][j] + m * pixel_stride + c, _MM_HINT_T0);
              return load_some<whole>(pixels.at[i][j] + c, count);
            },
            [&](int i, int j, Floats value) __attribute__((always_inline)) {
              float* position = to + (i * t + j) * stride + c;
              if constexpr (whole) {
                value.store(position);
              } else {
                value.store(position, count);
              }
            });
      });
    }
  }

  // The outputs of one panel, at most three vectors, from output `first_output` of the group on.
  static void transform_output(S s, const WinogradOutput& p, const float* products, int64_t columns,
                               int64_t group, int64_t first_output, TaskRange tiles) {
    const int64_t stride = product_stride(s);
    const int64_t outputs = std::min(columns, s.group_outputs() - first_output);
    first_output += group * s.group_outputs();
    for (int64_t tile = tiles.first; tile < tiles.last; ++tile) {
      const int64_t x = tile % s.tiles_w() * m, y = tile / s.tiles_w() % s.tiles_h() * m;
      const int64_t n = tile / (s.tiles_w() * s.tiles_h());
      const int64_t rows = s.out_height - y, row_columns = s.out_width - x;
      const int64_t first_pixel = (n * s.out_height + y) * s.out_width + x;
      const float* from = products + (tile - tiles.first) * columns;
      for_each_vector(outputs, [&](int64_t c, int count, auto whole) {
        const Finish<whole> finish(p.epilogue, first_output + c, count);
        transform<W::kOutput, m, t>(
            [&](int i, int j) __attribute__((always_inline)) {
              return Floats::load(from + (i * t + j) * stride + c);
            },
            [&](int i, int j, Floats value) __attribute__((always_inline)) {
              if (i >= rows || j >= row_columns) return;
              const int64_t pixel = first_pixel + i * s.out_width + j;
              store_some<whole>(finish(value, pixel),
                                p.out + pixel * p.out_stride + first_output + c, count);
            });
      });
    }
  }

  static void output(S s, const WinogradOutput& p, float* scratch, TaskRange tasks) {
    const ColumnPanels panels(s.group_outputs());
    const int64_t block = block_tiles(s), block_count = blocks(s), part_count = parts(s);
    const auto round_up = [](int64_t n) { return (n + kSkew - 1) / kSkew * kSkew; };
    float* zeros = scratch;
    float* inputs = zeros + round_up(s.group_channels());
    float* products = inputs + round_up(kPositions * input_stride(s));
    std::fill(zeros, zeros + s.group_channels(), 0.f);
    for (int64_t task = tasks.first; task < tasks.last; ++task) {
      const int64_t part = task % part_count, rest = task / part_count;
      const int64_t group = rest / block_count, first = rest % block_count * block;
      const TaskRange tiles = {first, std::min(first + block, s.tiles())};
      transform_input(s, p.input, p.input_stride, group, tiles, zeros, inputs);
      const int64_t end = panels.count() * (part + 1) / part_count;
      for (int64_t panel = panels.count() * part / part_count; panel < end; ++panel) {
        const int width = panels.width(panel);
        const float* weights = p.transformed + panel_offset(s, panels, group, panel);
        for (int position = 0; position < kPositions; ++position) {
          const float* of_position = weights + position * position_stride(s, width);
          const bool fetch = has_large_weights(s) && position + 1 < kPositions;
          for (int64_t c = 0; c < s.group_channels(); c += kSummands) {
            const int64_t skip = c * width * kLanes;
            gemm({.a = inputs + position * input_stride(s) + c,
                  .a_row = s.group_channels(),
                  .a_step = 1,
                  .b = of_position + skip,
                  .b_step = width * kLanes,
                  .depth = std::min(kSummands, s.group_channels() - c),
                  .c = products + position * product_stride(s),
                  .c_row = width * kLanes,
                  .add = c > 0,
                  .next = fetch ? of_position + position_stride(s, width) + skip : nullptr},
                 tiles.last - tiles.first, width);
          }
        }
        transform_output(s, p, products, width * kLanes, group, panels.first_column(panel), tiles);
      }
    }
  }

  // --- gradient of the weights ---
  //
  // One row of the transformed tiles at a time, t of their t^2 positions: so few that those of many
  // tiles fit into the L3 cache, where all threads read them.  In memory ("pair" of transforms):
  //
  //   inputs      (group, panel of three vectors of channels, position, tile of the chunk, channel)
  //   gradients   (group, panel of outputs as in the weights, position, tile of the chunk, output)
  //
  //        one position:       tiles             outputs              outputs
  //                        c +-------+       t +---------+        c +---------+
  //                        h |input, |   x   i |gradients|   +=   h |  sums   |
  //                        a |as it  |       l |         |        a |         |
  //                        n | lies  |       e +---------+        n +---------+
  //                          +-------+

  static constexpr int kInputPanel = 3;
  static constexpr int64_t kDepth = 128;  // tiles whose panels fit into the L1 cache

  static int64_t pair_columns(S s) {
    const int64_t inputs = (s.group_channels() + kLanes - 1) / kLanes * kLanes;
    return s.groups * (inputs + ColumnPanels(s.group_outputs()).columns());
  }
  static int64_t pair_size(S s, int64_t chunk) { return t * pair_columns(s) * chunk; }

  static int64_t input_vectors(S s) { return (s.group_channels() + kLanes - 1) / kLanes; }
  static float* input_panel(S s, float* scratch, int64_t chunk, int64_t group, int64_t vector) {
    return scratch + t * chunk * kLanes * (group * input_vectors(s) + vector);
  }
  static float* grad_panel(S s, float* scratch, int64_t chunk, int64_t group, int64_t column) {
    const int64_t inputs = s.groups * input_vectors(s) * kLanes;
    return scratch +
           t * chunk * (inputs + group * ColumnPanels(s.group_outputs()).columns() + column);
  }

  template <int row>
  static void transform_pair_row(S s, const float* input, const float* grad, const TileChunk& chunk,
                                 TaskRange tiles, float* scratch) {
    const ColumnPanels panels(s.group_outputs());
    const int64_t channels = s.group_channels(), outputs = s.group_outputs();
    alignas(64) static const float zero[kLanes] = {};
    for (int64_t tile = tiles.first; tile < tiles.last; ++tile) {
      const int64_t x = tile % s.tiles_w() * m, y = tile / s.tiles_w() % s.tiles_h() * m;
      const int64_t n = tile / (s.tiles_w() * s.tiles_h()), number = tile - chunk.first;
      const ImagePatch<t> pixels(input + n * s.height * s.width * s.channels, s.height, s.width,
                                 s.channels, y - s.pad_h, x - s.pad_w, nullptr);
      const ImagePatch<m> grads(grad + n * s.out_height * s.out_width * s.outputs, s.out_height,
                                s.out_width, s.outputs, y, x, nullptr);
      for (int64_t group = 0; group < s.groups; ++group) {
        for_each_vector(channels, [&](int64_t c, int count, auto whole) {
          const int64_t vector = c / kLanes, panel = vector / kInputPanel * kInputPanel;
          const int64_t width = std::min<int64_t>(kInputPanel, input_vectors(s) - panel) * kLanes;
          float* to = input_panel(s, scratch, chunk.size, group, panel) + number * width +
                      (vector - panel) * kLanes;
          transform_row<W::kInput, row, t, t>(
              [&](int i, int j) __attribute__((always_inline)) {
                const float* from = pixels.at[i][j];
                if (j >= r - 1) {
                  _mm_prefetch(from + m * s.channels + group * channels + c, _MM_HINT_T0);
                }
                return load_some<whole>(from ? from + group * channels + c : zero, count);
              },
              [&](int j, Floats value)
                  __attribute__((always_inline)) { value.store(to + j * chunk.size * width); });
        });
        for_each_vector(outputs, [&](int64_t c, int count, auto whole) {
          const int64_t panel = std::min(c / (2 * kLanes), panels.count() - 1);
          const int64_t width = panels.width(panel) * kLanes, column = panels.first_column(panel);
          float* to =
              grad_panel(s, scratch, chunk.size, group, column) + number * width + c - column;
          transform_row<W::kOutputGrad, row, t, m>(
              [&](int i, int j) __attribute__((always_inline)) {
                const float* from = grads.at[i][j];
                _mm_prefetch(from + m * s.outputs + group * outputs + c, _MM_HINT_T0);
                return load_some<whole>(from ? from + group * outputs + c : zero, count);
              },
              [&](int j, Floats value)
                  __attribute__((always_inline)) { value.store(to + j * chunk.size * width); });
        });
      }
    }
  }

  static void transform_pair(S s, const float* input, const float* grad, int row,
                             const TileChunk& chunk, TaskRange tiles, float* scratch) {
    unrolled<t>([&](auto i) {
      if (i == row) transform_pair_row<i>(s, input, grad, chunk, tiles, scratch);
    });
  }

  static int64_t multiply_tasks(S s) {
    const int64_t input_panels = (input_vectors(s) + kInputPanel - 1) / kInputPanel;
    return s.groups * t * input_panels * ColumnPanels(s.group_outputs()).count();
  }

  static void multiply_pair(S s, const float* scratch, int row, int64_t chunk, bool add,
                            float* sums, TaskRange tasks) {
    const ColumnPanels panels(s.group_outputs());
    const int64_t input_panels = (input_vectors(s) + kInputPanel - 1) / kInputPanel;
    float* all = const_cast<float*>(scratch);
    for (int64_t task = tasks.first; task < tasks.last; ++task) {
      const int64_t panel = task % panels.count(), rest = task / panels.count();
      const int64_t vector = rest % input_panels * kInputPanel;
      const int64_t position = rest / input_panels % t, group = rest / input_panels / t;
      const int64_t c = vector * kLanes,
                    rows = std::min<int64_t>(kInputPanel * kLanes, s.group_channels() - c);
      const int64_t a_step = std::min<int64_t>(kInputPanel, input_vectors(s) - vector) * kLanes;
      const int width = panels.width(panel);
      const int64_t b_step = width * kLanes;
      const float* a = input_panel(s, all, chunk, group, vector) + position * chunk * a_step;
      const float* b =
          grad_panel(s, all, chunk, group, panels.first_column(panel)) + position * chunk * b_step;
      float* to = sums + panel_offset(s, panels, group, panel) +
                  (row * t + position) * position_stride(s, width) + c * b_step;
      for (int64_t k = 0; k < chunk; k += kDepth) {
        gemm({.a = a + k * a_step,
              .a_row = 1,
              .a_step = a_step,
              .b = b + k * b_step,
              .b_step = b_step,
              .depth = std::min(kDepth, chunk - k),
              .c = to,
              .c_row = b_step,
              .add = add || k > 0},
             rows, width);
      }
    }
  }

  static constexpr WinogradKernels kKernels = {.weight_size = weight_size,
                                               .weight_tasks = weight_tasks,
                                               .transform_weights = transform_weights,
                                               .output_tasks = output_tasks,
                                               .output_scratch = output_scratch,
                                               .output = output,
                                               .pair_size = pair_size,
                                               .transform_pair = transform_pair,
                                               .multiply_tasks = multiply_tasks,
                                               .multiply_pair = multiply_pair,
                                               .weight_grad = weight_grad};
};

inline const WinogradKernels* find_winograd(int out_tile, int kernel) {
  if (kernel == 3 && out_tile == 2) return &WinogradSimd<2, 3>::kKernels;
  if (kernel == 3 && out_tile == 4) return &WinogradSimd<4, 3>::kKernels;
  if (kernel == 5 && out_tile == 2) return &WinogradSimd<2, 5>::kKernels;
  return nullptr;
}

}  // namespace caffe_compat::CAFFE_COMPAT_SIMD
