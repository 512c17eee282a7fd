// The kernels of linear.h for one vector set.
#pragma once

#include "common/register_tile_simd.h"

namespace caffe_compat::CAFFE_COMPAT_SIMD {
namespace {

// What a block of the small operand may take: a quarter of an L2 cache of 1 MiB.
constexpr int64_t kCacheFloats = 65536;
// Inputs summed in one register before the sum goes to memory; short sums are also more accurate.
constexpr int64_t kForwardDepth = 512;
// Rows of w (outputs) that the input gradient reads side by side.
constexpr int64_t kGradDepth = 32;

constexpr int64_t tiles(int64_t size, int64_t tile) { return (size + tile - 1) / tile; }

// Calls function(rows) with `rows` as a constant.
template <int rows = kTileRows, typename Function>
CAFFE_COMPAT_SIMD_INLINE void with_rows(int64_t count, Function&& function) {
  if constexpr (rows > 0) {
    if (count == rows) {
      function(std::integral_constant<int, rows>());
    } else {
      with_rows<rows - 1>(count, function);
    }
  }
}

void pack_columns(const float* from, int64_t rows, int64_t columns, float* to, TaskRange panels) {
  for (int64_t panel = panels.first; panel < panels.last; ++panel) {
    const int64_t first = panel * kTileColumns;
    const int64_t count = std::min<int64_t>(columns - first, kTileColumns);
    float* out = to + panel * rows * kTileColumns;
    for (int64_t row = 0; row < rows; ++row, out += kTileColumns) {
      std::copy_n(from + row * columns + first, count, out);
      std::fill(out + count, out + kTileColumns, 0.0f);
    }
  }
}

// Columns of a panel of the batch: see packed_batch.
constexpr int64_t panel_columns(int64_t batch) {
  return batch <= Floats::kLanes ? Floats::kLanes : kTileColumns;
}

void pack_rows(const float* from, int64_t rows, int64_t columns, float* to,
               TaskRange columns_of_from) {
  constexpr int64_t kStep = 16;  // a cache line of each row at a time
  const int64_t width = panel_columns(rows);
  for (int64_t first_row = 0; first_row < rows; first_row += width) {
    const int64_t count = std::min(rows - first_row, width);
    const float* in = from + first_row * columns;
    float* out = to + first_row * columns;
    for (int64_t first = columns_of_from.first; first < columns_of_from.last; first += kStep) {
      const int64_t last = std::min(first + kStep, columns_of_from.last);
      for (int64_t row = 0; row < count; ++row) {
        for (int64_t column = first; column < last; ++column) {
          out[column * width + row] = in[row * columns + column];
        }
      }
      for (int64_t column = first; column < last; ++column) {
        std::fill(out + column * width + count, out + (column + 1) * width, 0.0f);
      }
    }
  }
}

// Writes a tile of outputs, sums[panel][output][item in panel], to its place in y.
void finish_forward(const LinearForward& p, const float* sums, const LinearSizes& s,
                    int64_t first_output, int64_t rows) {
  const int64_t width = panel_columns(s.batch);
  for (int64_t item = 0; item < s.batch; ++item) {
    const float* in = sums + item / width * kTileRows * width + item % width;
    float* out = p.output + item * s.outputs + first_output;
    for (int64_t row = 0; row < rows; ++row) {
      float value = in[row * width];
      if (p.bias) value += p.bias[first_output + row];
      out[row] = p.relu && value < 0 ? 0 : value;
    }
  }
}

// Leaves the sums of some row tiles in scratch: [tile][panel of `vectors` vectors][output][item].
template <int vectors>
void forward_sums(const LinearForward& p, const LinearSizes& s, float* scratch, TaskRange range) {
  constexpr int64_t width = vectors * Floats::kLanes;
  const int64_t panels = tiles(s.batch, width);
  const int64_t tile_floats = kTileRows * panels * width;
  // Inputs of a block: its part of x stays in the L2 cache while w passes by.
  const int64_t block =
      std::max<int64_t>(kCacheFloats / (panels * width) / kForwardDepth, 1) * kForwardDepth;
  std::fill(scratch + range.first * tile_floats, scratch + range.last * tile_floats, 0.0f);
  for (int64_t block_start = 0; block_start < s.inputs; block_start += block) {
    const int64_t block_end = std::min(block_start + block, s.inputs);
    for (int64_t tile = range.first; tile < range.last; ++tile) {
      const int64_t first_output = tile * kTileRows;
      with_rows(std::min<int64_t>(s.outputs - first_output, kTileRows), [&](auto rows) {
        for (int64_t start = block_start; start < block_end; start += kForwardDepth) {
          const int64_t depth = std::min(kForwardDepth, block_end - start);
          for (int64_t panel = 0; panel < panels; ++panel) {
            RegisterTile<rows, vectors> sum;
            sum.clear();
            sum.add_product(p.weight + first_output * s.inputs + start, s.inputs, 1,
                            p.x_rows + (panel * s.inputs + start) * width, width, depth);
            sum.add_to(scratch + tile * tile_floats + panel * kTileRows * width, width);
          }
        }
      });
    }
  }
}

void forward(const LinearForward& p, const LinearSizes& s, float* scratch, TaskRange range) {
  const int64_t width = panel_columns(s.batch);
  if (width == kTileColumns) {
    forward_sums<kTileVectors>(p, s, scratch, range);
  } else {
    forward_sums<1>(p, s, scratch, range);
  }
  for (int64_t tile = range.first; tile < range.last; ++tile) {
    const int64_t first_output = tile * kTileRows;
    finish_forward(p, scratch + tile * kTileRows * tiles(s.batch, width) * width, s, first_output,
                   std::min<int64_t>(s.outputs - first_output, kTileRows));
  }
}

void input_grad(const float* grad, const float* weight, float* result, const LinearSizes& s,
                float* scratch, TaskRange range) {
  const int64_t panel_floats = s.batch * kTileColumns;
  // The sums of a block of panels stay in the L2 cache while w passes by.
  const int64_t block = std::max<int64_t>(kCacheFloats / panel_floats, 1);
  // The last panel may be narrower than a tile: its part of w goes through a padded copy.
  float edge[kGradDepth * kTileColumns] = {};
  std::fill(scratch + range.first * panel_floats, scratch + range.last * panel_floats, 0.0f);
  for (int64_t block_start = range.first; block_start < range.last; block_start += block) {
    const int64_t block_end = std::min(block_start + block, range.last);
    for (int64_t start = 0; start < s.outputs; start += kGradDepth) {
      const int64_t depth = std::min(kGradDepth, s.outputs - start);
      for (int64_t panel = block_start; panel < block_end; ++panel) {
        const float* rows_of_w = weight + start * s.inputs + panel * kTileColumns;
        int64_t stride = s.inputs;
        const int64_t columns = std::min<int64_t>(s.inputs - panel * kTileColumns, kTileColumns);
        if (columns < kTileColumns) {
          for (int64_t d = 0; d < depth; ++d) {
            std::copy_n(rows_of_w + d * s.inputs, columns, edge + d * kTileColumns);
          }
          rows_of_w = edge;
          stride = kTileColumns;
        }
        for (int64_t item = 0; item < s.batch; item += kTileRows) {
          with_rows(std::min<int64_t>(s.batch - item, kTileRows), [&](auto rows) {
            float* sums = scratch + panel * panel_floats + item * kTileColumns;
            RegisterTile<rows> sum;
            sum.load(sums, kTileColumns);
            const float* numbers = grad + item * s.outputs + start;
            if (item == 0) {
              sum.template add_product<kTileColumns>(numbers, s.outputs, 1, rows_of_w, stride,
                                                     depth);
            } else {
              sum.add_product(numbers, s.outputs, 1, rows_of_w, stride, depth);
            }
            sum.store(sums, kTileColumns);
          });
        }
      }
    }
  }
  for (int64_t panel = range.first; panel < range.last; ++panel) {
    const int64_t columns = std::min<int64_t>(s.inputs - panel * kTileColumns, kTileColumns);
    for (int64_t item = 0; item < s.batch; ++item) {
      std::copy_n(scratch + panel * panel_floats + item * kTileColumns, columns,
                  result + item * s.inputs + panel * kTileColumns);
    }
  }
}

void weight_grad(const float* grad, const float* x_columns, float* result, bool stream,
                 const LinearSizes& s, TaskRange range) {
  const int64_t panel_floats = s.batch * kTileColumns;
  const int64_t block = std::max<int64_t>(kCacheFloats / panel_floats, 1);
  for (int64_t block_start = range.first; block_start < range.last; block_start += block) {
    const int64_t block_end = std::min(block_start + block, range.last);
    for (int64_t output = 0; output < s.outputs; output += kTileRows) {
      with_rows(std::min<int64_t>(s.outputs - output, kTileRows), [&](auto rows) {
        for (int64_t panel = block_start; panel < block_end; ++panel) {
          RegisterTile<rows> sum;
          sum.clear();
          sum.add_product(grad + output, 1, s.outputs, x_columns + panel * panel_floats,
                          kTileColumns, s.batch);
          float* out = result + output * s.inputs + panel * kTileColumns;
          const int64_t columns = std::min<int64_t>(s.inputs - panel * kTileColumns, kTileColumns);
          if (columns < kTileColumns) {
            float edge[rows * kTileColumns];
            sum.store(edge, kTileColumns);
            for (int r = 0; r < rows; ++r) {
              std::copy_n(edge + r * kTileColumns, columns, out + r * s.inputs);
            }
          } else if (stream) {
            sum.stream(out, s.inputs);
          } else {
            sum.store(out, s.inputs);
          }
        }
      });
    }
  }
  if (stream) _mm_sfence();
}

}  // namespace

constexpr LinearKernels make_kernels() {
  return {.tile_rows = kTileRows,
          .tile_columns = kTileColumns,
          .pack_columns = pack_columns,
          .pack_rows = pack_rows,
          .forward = forward,
          .input_grad = input_grad,
          .weight_grad = weight_grad};
}

}  // namespace caffe_compat::CAFFE_COMPAT_SIMD
