// Convolution of stride 1 by Winograd's minimal filtering F(m x m, r x r), on float32 images with
// channels last.
//
//   y = A^T [ sum over channels of (G g G^T) * (B^T d B) ] A          (* is elementwise)
//
// A tile d of t x t input pixels, t = m + r - 1, makes m x m outputs.  Each of the t^2 positions in
// the transformed tiles is a matrix product of its own, so that a block of tiles takes these steps:
//
//      image                transformed           products              output
//    +-----------+          +----------+          +---------+          +-----------+
//    | tiles of  |          |          |          |         |          | tiles of  |
//    | t x t     | B^T d B  | tiles    | times    | tiles   | A^T p A  | m x m     |
//    | that      | -------> |    by    | -------> |   by    | -------> | side      |
//    | overlap   |          | channels | weights  | outputs |          | by side   |
//    | by r - 1  |          +----------+          +---------+          +-----------+
//    +-----------+           one such matrix for each position; the weights are
//                            G g G^T, at each position (channels by outputs)
//
// m^2 outputs cost t^2 products instead of m^2 r^2: for F(4, 3) 36 instead of 144.
//
// Each function works on a range of tasks, so that the caller can share them out among threads; the
// results do not depend on how.
#pragma once

#include <cstdint>

#include "common/task_range.h"
#include "conv/epilogue.h"

namespace caffe_compat {

struct WinogradShape {
  int64_t batch, height, width, channels;  // input (N, H, W, C)
  int64_t out_height, out_width, outputs;  // output (N, H', W', O)
  int64_t pad_h, pad_w;                    // negative ones cut the image
  int64_t groups;
  int out_tile;         // m
  int kernel;           // r
  int64_t threads = 1;  // that share the tasks of the output

  int64_t group_channels() const { return channels / groups; }
  int64_t group_outputs() const { return outputs / groups; }
  // t^2, in a transformed tile.
  int64_t positions() const {
    return static_cast<int64_t>(out_tile + kernel - 1) * (out_tile + kernel - 1);
  }
  int64_t tiles_h() const { return (out_height + out_tile - 1) / out_tile; }
  int64_t tiles_w() const { return (out_width + out_tile - 1) / out_tile; }
  int64_t tiles() const { return batch * tiles_h() * tiles_w(); }
};

// Weights (groups, outputs / groups, channels / groups, r, r); the distances between neighbours on
// the first three axes are free.
template <typename T>
struct WinogradWeights {
  T* data;
  int64_t group_stride, output_stride, channel_stride;
  bool rotated;  // by 180 degrees, as for the gradient of the input

  T* find(int64_t group, int64_t output, int64_t channel) const {
    return data + group * group_stride + output * output_stride + channel * channel_stride;
  }
};

// What the output is made from: out = epilogue(conv(input, weights)).
struct WinogradOutput {
  const float *input, *transformed;  // transformed: by transform_weights
  Epilogue epilogue;
  float* out;
  int64_t input_stride, out_stride;  // numbers from one pixel to the next; dense: all channels
};

// Some tiles, in the order of the images, whose transforms are in memory at a time.
struct TileChunk {
  int64_t first, size;
};

struct WinogradKernels {
  // --- output, and gradient of the input ---
  // Transformed weights: numbers, and how many tasks make them.
  int64_t (*weight_size)(const WinogradShape&);
  int64_t (*weight_tasks)(const WinogradShape&);
  void (*transform_weights)(const WinogradShape&, const WinogradWeights<const float>&,
                            float* transformed, TaskRange tasks);
  // A task is one group of a block of tiles, or some outputs of it; output_scratch: numbers of
  // scratch space for one.
  int64_t (*output_tasks)(const WinogradShape&);
  int64_t (*output_scratch)(const WinogradShape&);
  void (*output)(const WinogradShape&, const WinogradOutput&, float* scratch, TaskRange tasks);

  // --- gradient of the weights ---
  //   dw = G^T [ sum over tiles of (B^T d B) * (A dy A^T) ] G
  // For each chunk of tiles and each row of the t x t positions: transform_pair writes that row of
  // both transforms, then multiply_pair adds their products to `sums`.  At the end weight_grad.
  // pair_size: the numbers of scratch space that one row of a chunk takes.
  int64_t (*pair_size)(const WinogradShape&, int64_t chunk_size);
  void (*transform_pair)(const WinogradShape&, const float* input, const float* grad, int row,
                         const TileChunk& chunk, TaskRange tiles, float* scratch);
  int64_t (*multiply_tasks)(const WinogradShape&);
  // `sums` has weight_size numbers, written if not `add`.
  void (*multiply_pair)(const WinogradShape&, const float* scratch, int row, int64_t chunk_size,
                        bool add, float* sums, TaskRange tasks);
  // From `count` arrays of sums, which lie one after another and are added in that order;
  // weight_tasks of them.
  void (*weight_grad)(const WinogradShape&, const float* sums, int64_t count,
                      const WinogradWeights<float>&, TaskRange tasks);
};

// Null where there is no such kernel: m x m outputs of r x r taps, (2, 3), (4, 3) and (2, 5).
const WinogradKernels* winograd_avx2(int out_tile, int kernel);
const WinogradKernels* winograd_avx512(int out_tile, int kernel);

// With fewer channels in a group, Winograd's products are too thin to pay for the transforms.
constexpr int64_t kFewestWinogradChannels = 8;

// The kernels for such sizes that this machine can run; null where there are none, or where groups
// have so few channels that others are faster.
const WinogradKernels* winograd_kernels(const WinogradShape&);

}  // namespace caffe_compat
