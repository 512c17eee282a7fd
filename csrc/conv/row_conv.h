// Convolution of float32 images of few channels, channels last, as matrix products of kernel rows.
//
// A row of the kernel sees kernel_w * channels numbers that lie side by side in memory, so that the
// image is a matrix as it is, whose rows overlap (here 3 channels, kernel_w 2, stride 1):
//
//     image row    r g b r g b r g b r g b ...
//     row 0        \_________/
//     row 1              \_________/
//     row 2                    \_________/
//
//   out[pixel] = sum over kernel rows of those numbers times (kernel_w * channels, outputs) weights
//
// One group, dilation_w 1, no padding (the caller pads).  Each function works on a range of tasks;
// the results do not depend on how they are shared out.
#pragma once

#include <cstdint>

#include "common/task_range.h"
#include "conv/conv.h"

namespace caffe_compat {

// What the output is made from: out = conv(input, weights) + bias, cut at zero with `relu`.
struct RowConvOutput {
  const float *input, *packed;  // packed: weights, by pack_weights
  const float* bias;            // may be null
  bool relu;
  float* out;
};

struct RowConvKernels {
  // Packed weights: panels of outputs, each (kernel_h, kernel_w, channels) by outputs.
  int64_t (*weight_size)(const ConvSizes&);
  void (*pack_weights)(const ConvSizes&, const float* weight, float* packed);

  // A task is a row of output pixels.
  int64_t (*output_scratch)(const ConvSizes&);
  void (*output)(const ConvSizes&, const RowConvOutput&, float* scratch, TaskRange tasks);

  // A task is a band of output rows; it adds to `sums`, weight_size numbers.
  int64_t (*grad_tasks)(const ConvSizes&);
  int64_t (*grad_scratch)(const ConvSizes&);
  void (*add_weight_grad)(const ConvSizes&, const float* input, const float* grad, float* sums,
                          float* scratch, TaskRange tasks);
  // weight_grad from `count` arrays of sums, which lie one after another and are added in that
  // order.
  void (*unpack_weights)(const ConvSizes&, const float* sums, int64_t count, float* weight_grad);
};

const RowConvKernels& row_conv_avx2();
const RowConvKernels& row_conv_avx512();

}  // namespace caffe_compat
