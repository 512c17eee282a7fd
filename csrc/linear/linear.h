// y = x w^T + b and its gradients for a batch far smaller than the weights, so that the time goes
// into moving the weights: each kernel reads or writes every weight once, in long runs along the
// rows.
//
//   forward      y  = x w^T + b      reads w
//   input_grad   dx = dy w           reads w
//   weight_grad  dw = dy^T x         writes dw
//
// All matrices are contiguous: x (batch, inputs), w (outputs, inputs), y (batch, outputs).  Each
// kernel takes a range of its tiles (forward) or column panels (gradients), so that threads share
// the work; no sum depends on the ranges.  Small operands are packed into panels first, in buffers
// of the sizes given here.
#pragma once

#include <cstdint>

#include "common/task_range.h"

namespace caffe_compat {

struct LinearSizes {
  int64_t batch, inputs, outputs;
};

// What forward works on.
struct LinearForward {
  const float *x_rows, *weight;  // x_rows: x by pack_rows
  const float* bias;             // may be null
  bool relu;
  float* output;
};

// One set of kernels for AVX2, one for AVX-512.
struct LinearKernels {
  int64_t tile_rows, tile_columns;  // of a register tile

  // The batch rounded up to whole panels; one panel of a single vector where that is enough.
  constexpr int64_t packed_batch(int64_t batch) const {
    if (batch <= tile_columns / 2) return tile_columns / 2;
    return (batch + tile_columns - 1) / tile_columns * tile_columns;
  }

  // Packs `from` (rows, columns) into panels of tile_columns columns, zero behind the last column:
  // to[panel][row][column in panel].
  void (*pack_columns)(const float* from, int64_t rows, int64_t columns, float* to,
                       TaskRange panels);
  // Packs the transpose of `from`, rows side by side: to[panel][column][row in panel], with room
  // for columns * packed_batch(rows) numbers.
  void (*pack_rows)(const float* from, int64_t rows, int64_t columns, float* to,
                    TaskRange columns_of_from);

  // y for the outputs of some row tiles of w.  scratch: tile_rows * packed_batch(batch) for each
  // tile.
  void (*forward)(const LinearForward& arrays, const LinearSizes& sizes, float* scratch,
                  TaskRange tiles);
  // dx for some column panels of w.  scratch: batch * tile_columns for each panel.
  void (*input_grad)(const float* grad, const float* weight, float* input_grad,
                     const LinearSizes& sizes, float* scratch, TaskRange panels);
  // dw for some column panels; x_columns: x by pack_columns.  `stream` writes with non-temporal
  // stores; dw and its rows must then be aligned to 64 bytes.
  void (*weight_grad)(const float* grad, const float* x_columns, float* weight_grad, bool stream,
                      const LinearSizes& sizes, TaskRange panels);
};

extern const LinearKernels kLinearAvx2, kLinearAvx512;

}  // namespace caffe_compat
