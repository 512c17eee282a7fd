// y = x w^T + b for a batch far smaller than the weight, whose traffic is then what costs: each
// kernel reads or writes every weight once, in long runs along the rows.
//
// All matrices are contiguous: x (batch, inputs), w (outputs, inputs), y (batch, outputs).  Each
// kernel takes a range of its tiles, so that threads share the work; no sum depends on the ranges.
// Small operands are packed first (same ranges), in buffers of the sizes given here.
#pragma once

#include <cstdint>

namespace caffe_compat {

struct LinearSizes {
  int64_t batch, inputs, outputs;
};

// One set of kernels for AVX2, one for AVX-512.
struct LinearKernels {
  int64_t tile_rows, tile_columns;

  // The batch rounded up to whole panels; one panel of a single vector where that is enough.
  constexpr int64_t packed_batch(int64_t batch) const {
    if (batch <= tile_columns / 2) return tile_columns / 2;
    return (batch + tile_columns - 1) / tile_columns * tile_columns;
  }

  // Columns of `from` (rows, columns) side by side in panels of tile_columns, zero behind the last:
  // to[panel][row][column in panel].
  void (*pack_columns)(const float* from, int64_t rows, int64_t columns, float* to,
                       int64_t first_panel, int64_t last_panel);
  // The same of the transpose, a batch side by side in panels: to[panel][column][row in panel].
  // first and last are columns; room for columns * packed_batch(rows).
  void (*pack_rows)(const float* from, int64_t rows, int64_t columns, float* to,
                    int64_t first_column, int64_t last_column);

  // y for the outputs of some row tiles of w; x_rows from pack_rows(x).  bias may be null. scratch:
  // tile_rows * packed_batch(batch) for each tile.
  void (*forward)(const float* x_rows, const float* weight, const float* bias, bool relu,
                  float* output, const LinearSizes& sizes, float* scratch, int64_t first_tile,
                  int64_t last_tile);
  // dx for some column panels of w.  scratch: batch * tile_columns for each panel.
  void (*input_grad)(const float* grad, const float* weight, float* input_grad,
                     const LinearSizes& sizes, float* scratch, int64_t first_panel,
                     int64_t last_panel);
  // dw for some column panels; x_columns from pack_columns(x).  `stream` writes past the caches;
  // dw must then be aligned to 64 bytes and its rows too.
  void (*weight_grad)(const float* grad, const float* x_columns, float* weight_grad, bool stream,
                      const LinearSizes& sizes, int64_t first_panel, int64_t last_panel);
};

extern const LinearKernels kLinearAvx2, kLinearAvx512;

}  // namespace caffe_compat
