// Convolution of float32 images of few channels, channels last: a row of the kernel sees
// kernel_w * channels numbers that lie side by side in memory, so the image is a matrix as it is,
// whose rows overlap.  One group, dilation_w 1, no padding (the caller pads).  Each function works
// on a part of the task; the results do not depend on how they are shared out.
#pragma once

#include <cstdint>

#include "conv/conv.h"

namespace caffe_compat {

struct RowConvKernels {
  // Packed weights: panels of outputs, then (kernel_h, kernel_w, channels) by outputs.
  int64_t (*weight_size)(const ConvSizes&);
  void (*pack_weights)(const ConvSizes&, const float* weight, float* packed);

  // A task is a row of output pixels.  bias may be null.
  int64_t (*output_scratch)(const ConvSizes&);
  void (*output)(const ConvSizes&, const float* input, const float* packed, const float* bias,
                 bool relu, float* out, float* scratch, int64_t first_task, int64_t last_task);

  // A task is a band of output rows; it adds to `sums`, weight_size numbers.
  int64_t (*grad_tasks)(const ConvSizes&);
  int64_t (*grad_scratch)(const ConvSizes&);
  void (*add_weight_grad)(const ConvSizes&, const float* input, const float* grad, float* sums,
                          float* scratch, int64_t first_task, int64_t last_task);
  // weight_grad = the sum of `count` sums, in their order.
  void (*unpack_weights)(const ConvSizes&, const float* sums, int64_t count, float* weight_grad);
};

const RowConvKernels& row_conv_avx2();
const RowConvKernels& row_conv_avx512();

}  // namespace caffe_compat
