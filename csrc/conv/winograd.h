// Convolution of stride 1 by Winograd's minimal filtering F(m x m, r x r), on float32 images with
// channels last.  Each function works on a part of the task, so that the caller can share it out
// among threads; the results do not depend on how.
#pragma once

#include <cstdint>

namespace caffe_compat {

struct WinogradShape {
  int64_t batch, height, width, channels;  // input (N, H, W, C)
  int64_t out_height, out_width, outputs;  // output (N, H', W', O)
  int64_t pad_h, pad_w;                    // negative ones cut the image
  int64_t groups;
  int out_tile;  // m
  int kernel;    // r

  int64_t group_channels() const { return channels / groups; }
  int64_t group_outputs() const { return outputs / groups; }
  int64_t places() const {
    return static_cast<int64_t>(out_tile + kernel - 1) * (out_tile + kernel - 1);
  }
  int64_t tiles_h() const { return (out_height + out_tile - 1) / out_tile; }
  int64_t tiles_w() const { return (out_width + out_tile - 1) / out_tile; }
  int64_t tiles() const { return batch * tiles_h() * tiles_w(); }
};

// Weights (groups, outputs / groups, channels / groups, r, r) anywhere in memory.
template <typename T>
struct WinogradWeights {
  T* data;
  int64_t group_step, output_step, channel_step;
  bool rotated;  // by 180 degrees, as for the gradient of the input

  T* find(int64_t group, int64_t output, int64_t channel) const {
    return data + group * group_step + output * output_step + channel * channel_step;
  }
};

struct WinogradKernels {
  // --- output, and gradient of the input ---
  // Transformed weights: numbers, and how many tasks make them.
  int64_t (*weight_size)(const WinogradShape&);
  int64_t (*weight_tasks)(const WinogradShape&);
  void (*transform_weights)(const WinogradShape&, const WinogradWeights<const float>&,
                            float* transformed, int64_t first_task, int64_t last_task);
  // Tasks for one group of a block of tiles each, and the numbers of scratch space for one.
  int64_t (*output_tasks)(const WinogradShape&);
  int64_t (*output_scratch)(const WinogradShape&);
  // bias may be null.
  void (*output)(const WinogradShape&, const float* input, const float* transformed,
                 const float* bias, bool relu, float* out, float* scratch, int64_t first_task,
                 int64_t last_task);

  // --- gradient of the weights: for chunks of tiles and each row of the transformed tiles
  // transform_pair, then multiply_pair over all its tasks; at the end weight_grad ---
  int64_t (*pair_size)(const WinogradShape&, int64_t chunk_size);  // scratch of one row of a chunk
  // For some tiles of the chunk that begins at `chunk_first`.
  void (*transform_pair)(const WinogradShape&, const float* input, const float* grad, int row,
                         int64_t first_tile, int64_t last_tile, int64_t chunk_first,
                         int64_t chunk_size, float* scratch);
  int64_t (*multiply_tasks)(const WinogradShape&);
  // `sums` has weight_size numbers, written if not `add`.
  void (*multiply_pair)(const WinogradShape&, const float* scratch, int row, int64_t chunk_size,
                        bool add, float* sums, int64_t first_task, int64_t last_task);
  // Of the sum of `count` sums in their order; weight_tasks of them.
  void (*weight_grad)(const WinogradShape&, const float* sums, int64_t count,
                      const WinogradWeights<float>&, int64_t first_task,
                      int64_t last_task);  // weight_tasks of them
};

// Null where there is no such kernel: m x m outputs of r x r taps, (2, 3), (4, 3) and (2, 5).
const WinogradKernels* winograd_avx2(int out_tile, int kernel);
const WinogradKernels* winograd_avx512(int out_tile, int kernel);

}  // namespace caffe_compat
