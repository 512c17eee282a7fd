// The kernels of winograd.h for one vector set.
//
// Channels lie in the lanes.  A tile of (m + r - 1)^2 input numbers a channel becomes as many
// transformed ones; for each of these places a matrix product (tiles, channels) x (channels,
// outputs) follows.  A block of tiles goes through all three steps inside the cache of a core.
#pragma once

#include <algorithm>
#include <cstdint>

#include "common/product_simd.h"
#include "conv/winograd.h"
#include "conv/winograd_matrices.h"

namespace caffe_compat::CAFFE_COMPAT_SIMD {

constexpr int kLanes = Floats::kLanes;

// Between matrices whose size is a power of two: else they would share the same cache sets.
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
struct PixelTile {
  const float* at[size][size];

  PixelTile(const float* image, int64_t height, int64_t width, int64_t channels, int64_t top,
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

template <int m, int r>
struct WinogradSimd {
  using W = Winograd<m, r>;
  using S = const WinogradShape&;
  static constexpr int t = W::kTile, kPlaces = t * t;

  // --- transformed weights (group, panel of outputs, place, channel, column of the panel) ---

  static int64_t place_step(S s, int width) { return s.group_channels() * width * kLanes + kSkew; }
  static int64_t group_size(S s) {
    const Panels panels(s.group_outputs());
    return kPlaces * (s.group_channels() * panels.columns() + panels.count() * kSkew);
  }
  static int64_t weight_size(S s) { return s.groups * group_size(s); }
  static int64_t panel_offset(S s, const Panels& panels, int64_t group, int64_t panel) {
    return group * group_size(s) +
           kPlaces * (s.group_channels() * panels.first_column(panel) + panel * kSkew);
  }

  static int64_t weight_tasks(S s) {
    return s.groups * Panels(s.group_outputs()).count() * s.group_channels();
  }

  // Calls body(group, first output, outputs here, channel, place 0, step between places) for the
  // vectors of all tasks.
  template <typename T, typename Body>
  static void for_each_weight_vector(S s, T* transformed, int64_t first, int64_t last,
                                     const Body& body) {
    const Panels panels(s.group_outputs());
    for (int64_t task = first; task < last; ++task) {
      const int64_t c = task % s.group_channels(), rest = task / s.group_channels();
      const int64_t panel = rest % panels.count(), group = rest / panels.count();
      const int width = panels.width(panel);
      T* to = transformed + panel_offset(s, panels, group, panel) + c * width * kLanes;
      for (int v = 0; v < width; ++v) {
        const int64_t o = panels.first_column(panel) + v * kLanes;
        const int64_t outputs = std::clamp<int64_t>(s.group_outputs() - o, 0, kLanes);
        body(group, o, outputs, c, to + v * kLanes, place_step(s, width));
      }
    }
  }

  static void transform_weights(S s, const WinogradWeights<const float>& weights,
                                float* transformed, int64_t first, int64_t last) {
    alignas(64) float taps[r * r][kLanes] = {};
    for_each_weight_vector(
        s, transformed, first, last,
        [&](int64_t group, int64_t o, int64_t outputs, int64_t c, float* to, int64_t step) {
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
              [&](int i, int j, Floats value) { value.store(to + (i * t + j) * step); });
        });
  }

  static void weight_grad(S s, const float* sums, int64_t count,
                          const WinogradWeights<float>& weights, int64_t first, int64_t last) {
    alignas(64) float taps[r * r][kLanes];
    const int64_t size = weight_size(s);
    for_each_weight_vector(
        s, sums, first, last,
        [&](int64_t group, int64_t o, int64_t outputs, int64_t c, const float* from, int64_t step) {
          transform<W::kWeightGrad, r, t>(
              [&](int i, int j) {
                const float* place = from + (i * t + j) * step;
                Floats sum = Floats::load(place);
                for (int64_t k = 1; k < count; ++k) sum = sum + Floats::load(place + k * size);
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

  static int64_t panel_columns(S s) {
    const Panels panels(s.group_outputs());
    return panels.width(panels.count() - 1) * kLanes;  // the last is the widest
  }

  // As many tiles as fill about half of a core's second cache.
  static int64_t block_tiles(S s) {
    constexpr int64_t kCacheNumbers = 160 << 10;
    const int64_t row = kPlaces * (s.group_channels() + panel_columns(s));
    const int64_t count = std::max<int64_t>(1, kCacheNumbers / row / kTileRows) * kTileRows;
    return std::min(count, s.tiles());
  }
  static int64_t output_tasks(S s) {
    const int64_t block = block_tiles(s);
    return block == 0 ? 0 : s.groups * ((s.tiles() + block - 1) / block);
  }
  static int64_t input_step(S s) { return block_tiles(s) * s.group_channels() + kSkew; }
  static int64_t product_step(S s) { return block_tiles(s) * panel_columns(s) + kSkew; }
  static int64_t output_scratch(S s) {
    return s.group_channels() + kPlaces * (input_step(s) + product_step(s)) + 3 * kSkew;
  }

  static void transform_input(S s, const float* input, int64_t group, int64_t first, int64_t last,
                              const float* zeros, float* out) {
    const int64_t channels = s.group_channels(), step = input_step(s);
    for (int64_t tile = first; tile < last; ++tile) {
      const int64_t x = tile % s.tiles_w(), y = tile / s.tiles_w() % s.tiles_h();
      const int64_t n = tile / (s.tiles_w() * s.tiles_h());
      const PixelTile<t> pixels(input + n * s.height * s.width * s.channels + group * channels,
                                s.height, s.width, s.channels, y * m - s.pad_h, x * m - s.pad_w,
                                zeros);
      float* to = out + (tile - first) * channels;
      for_each_vector(channels, [&](int64_t c, int count, auto whole) {
        transform<W::kInput, t, t>(
            [&](int i, int j) __attribute__((always_inline)) {
              // The columns that the next tile adds.
              if (j >= r - 1) _mm_prefetch(pixels.at[i][j] + m * s.channels + c, _MM_HINT_T0);
              return load_some<whole>(pixels.at[i][j] + c, count);
            },
            [&](int i, int j, Floats value) __attribute__((always_inline)) {
              float* place = to + (i * t + j) * step + c;
              if constexpr (whole) {
                value.store(place);
              } else {
                value.store(place, count);
              }
            });
      });
    }
  }

  // Of a panel of outputs, at most three vectors.
  static void transform_output(S s, const float* products, int64_t columns, int64_t group,
                               int64_t first_output, const float* bias, bool relu, int64_t first,
                               int64_t last, float* out) {
    const int64_t step = product_step(s);
    const int64_t outputs = std::min(columns, s.group_outputs() - first_output);
    first_output += group * s.group_outputs();
    const Floats floor = Floats::all(relu ? 0.f : -__builtin_inff());
    for (int64_t tile = first; tile < last; ++tile) {
      const int64_t x = tile % s.tiles_w() * m, y = tile / s.tiles_w() % s.tiles_h() * m;
      const int64_t n = tile / (s.tiles_w() * s.tiles_h());
      const int64_t rows = s.out_height - y, row_columns = s.out_width - x;
      float* to = out + ((n * s.out_height + y) * s.out_width + x) * s.outputs + first_output;
      const float* from = products + (tile - first) * columns;
      for_each_vector(outputs, [&](int64_t c, int count, auto whole) {
        const Floats offset =
            bias ? load_some<whole>(bias + first_output + c, count) : Floats::zero();
        transform<W::kOutput, m, t>(
            [&](int i, int j) __attribute__((always_inline)) {
              return Floats::load(from + (i * t + j) * step + c);
            },
            [&](int i, int j, Floats value) __attribute__((always_inline)) {
              if (i >= rows || j >= row_columns) return;
              value = max(floor, value + offset);  // NaN comes through
              float* pixel = to + (i * s.out_width + j) * s.outputs + c;
              if constexpr (whole) {
                value.store(pixel);
              } else {
                value.store(pixel, count);
              }
            });
      });
    }
  }

  static void output(S s, const float* input, const float* transformed, const float* bias,
                     bool relu, float* out, float* scratch, int64_t first_task, int64_t last_task) {
    const Panels panels(s.group_outputs());
    const int64_t block = block_tiles(s), blocks = (s.tiles() + block - 1) / block;
    const auto round_up = [](int64_t n) { return (n + kSkew - 1) / kSkew * kSkew; };
    float* zeros = scratch;
    float* tiles = zeros + round_up(s.group_channels());
    float* products = tiles + round_up(kPlaces * input_step(s));
    std::fill(zeros, zeros + s.group_channels(), 0.f);
    for (int64_t task = first_task; task < last_task; ++task) {
      const int64_t group = task / blocks, first = task % blocks * block;
      const int64_t last = std::min(first + block, s.tiles());
      transform_input(s, input, group, first, last, zeros, tiles);
      for (int64_t panel = 0; panel < panels.count(); ++panel) {
        const int width = panels.width(panel);
        const float* b = transformed + panel_offset(s, panels, group, panel);
        for (int place = 0; place < kPlaces; ++place) {
          multiply({tiles + place * input_step(s), s.group_channels(), 1,
                    b + place * place_step(s, width), width * kLanes, s.group_channels(),
                    products + place * product_step(s), width * kLanes, false},
                   last - first, width);
        }
        transform_output(s, products, width * kLanes, group, panels.first_column(panel), bias, relu,
                         first, last, out);
      }
    }
  }

  // --- gradient of the weights ---
  //
  // One row of the transformed tiles at a time, t of their t^2 places: so few that those of many
  // tiles fit into the last cache, where all threads read them.  Inputs lie in panels (group,
  // three vectors of channels, place, tile, channel), gradients in those of the weights.

  static constexpr int kInputPanel = 3;
  static constexpr int64_t kDepth = 128;  // tiles whose panels fit into the first caches

  static int64_t pair_columns(S s) {
    const int64_t inputs = (s.group_channels() + kLanes - 1) / kLanes * kLanes;
    return s.groups * (inputs + Panels(s.group_outputs()).columns());
  }
  static int64_t pair_size(S s, int64_t chunk) { return t * pair_columns(s) * chunk; }

  static int64_t input_vectors(S s) { return (s.group_channels() + kLanes - 1) / kLanes; }
  static float* input_panel(S s, float* scratch, int64_t chunk, int64_t group, int64_t vector) {
    return scratch + t * chunk * kLanes * (group * input_vectors(s) + vector);
  }
  static float* grad_panel(S s, float* scratch, int64_t chunk, int64_t group, int64_t column) {
    const int64_t inputs = s.groups * input_vectors(s) * kLanes;
    return scratch + t * chunk * (inputs + group * Panels(s.group_outputs()).columns() + column);
  }

  template <int row>
  static void transform_pair_row(S s, const float* input, const float* grad, int64_t first,
                                 int64_t last, int64_t chunk_first, int64_t chunk, float* scratch) {
    const Panels panels(s.group_outputs());
    const int64_t channels = s.group_channels(), outputs = s.group_outputs();
    alignas(64) static const float zero[kLanes] = {};
    for (int64_t tile = first; tile < last; ++tile) {
      const int64_t x = tile % s.tiles_w() * m, y = tile / s.tiles_w() % s.tiles_h() * m;
      const int64_t n = tile / (s.tiles_w() * s.tiles_h()), place = tile - chunk_first;
      const PixelTile<t> pixels(input + n * s.height * s.width * s.channels, s.height, s.width,
                                s.channels, y - s.pad_h, x - s.pad_w, nullptr);
      const PixelTile<m> grads(grad + n * s.out_height * s.out_width * s.outputs, s.out_height,
                               s.out_width, s.outputs, y, x, nullptr);
      for (int64_t group = 0; group < s.groups; ++group) {
        for_each_vector(channels, [&](int64_t c, int count, auto whole) {
          const int64_t vector = c / kLanes, panel = vector / kInputPanel * kInputPanel;
          const int64_t width = std::min<int64_t>(kInputPanel, input_vectors(s) - panel) * kLanes;
          float* to = input_panel(s, scratch, chunk, group, panel) + place * width +
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
                  __attribute__((always_inline)) { value.store(to + j * chunk * width); });
        });
        for_each_vector(outputs, [&](int64_t c, int count, auto whole) {
          const int64_t panel = std::min(c / (2 * kLanes), panels.count() - 1);
          const int64_t width = panels.width(panel) * kLanes, column = panels.first_column(panel);
          float* to = grad_panel(s, scratch, chunk, group, column) + place * width + c - column;
          transform_row<W::kOutputGrad, row, t, m>(
              [&](int i, int j) __attribute__((always_inline)) {
                const float* from = grads.at[i][j];
                _mm_prefetch(from + m * s.outputs + group * outputs + c, _MM_HINT_T0);
                return load_some<whole>(from ? from + group * outputs + c : zero, count);
              },
              [&](int j, Floats value)
                  __attribute__((always_inline)) { value.store(to + j * chunk * width); });
        });
      }
    }
  }

  static void transform_pair(S s, const float* input, const float* grad, int row, int64_t first,
                             int64_t last, int64_t chunk_first, int64_t chunk, float* scratch) {
    unrolled<t>([&](auto i) {
      if (i == row) transform_pair_row<i>(s, input, grad, first, last, chunk_first, chunk, scratch);
    });
  }

  static int64_t multiply_tasks(S s) {
    const int64_t input_panels = (input_vectors(s) + kInputPanel - 1) / kInputPanel;
    return s.groups * t * input_panels * Panels(s.group_outputs()).count();
  }

  static void multiply_pair(S s, const float* scratch, int row, int64_t chunk, bool add,
                            float* sums, int64_t first_task, int64_t last_task) {
    const Panels panels(s.group_outputs());
    const int64_t input_panels = (input_vectors(s) + kInputPanel - 1) / kInputPanel;
    float* all = const_cast<float*>(scratch);
    for (int64_t task = first_task; task < last_task; ++task) {
      const int64_t panel = task % panels.count(), rest = task / panels.count();
      const int64_t vector = rest % input_panels * kInputPanel;
      const int64_t place = rest / input_panels % t, group = rest / input_panels / t;
      const int64_t c = vector * kLanes,
                    rows = std::min<int64_t>(kInputPanel * kLanes, s.group_channels() - c);
      const int64_t a_step = std::min<int64_t>(kInputPanel, input_vectors(s) - vector) * kLanes;
      const int width = panels.width(panel);
      const int64_t b_step = width * kLanes;
      const float* a = input_panel(s, all, chunk, group, vector) + place * chunk * a_step;
      const float* b =
          grad_panel(s, all, chunk, group, panels.first_column(panel)) + place * chunk * b_step;
      float* to = sums + panel_offset(s, panels, group, panel) +
                  (row * t + place) * place_step(s, width) + c * b_step;
      for (int64_t k = 0; k < chunk; k += kDepth) {
        multiply({a + k * a_step, 1, a_step, b + k * b_step, b_step, std::min(kDepth, chunk - k),
                  to, b_step, add || k > 0},
                 rows, width);
      }
    }
  }

  static constexpr WinogradKernels kKernels = {
      weight_size, weight_tasks,   transform_weights, output_tasks,  output_scratch, output,
      pair_size,   transform_pair, multiply_tasks,    multiply_pair, weight_grad};
};

inline const WinogradKernels* find_winograd(int out_tile, int kernel) {
  if (kernel == 3 && out_tile == 2) return &WinogradSimd<2, 3>::kKernels;
  if (kernel == 3 && out_tile == 4) return &WinogradSimd<4, 3>::kKernels;
  if (kernel == 5 && out_tile == 2) return &WinogradSimd<2, 5>::kKernels;
  return nullptr;
}

}  // namespace caffe_compat::CAFFE_COMPAT_SIMD
