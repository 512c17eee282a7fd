// What the CUDA side does with the operator's arguments before a kernel runs.
#pragma once

#include <ATen/core/Tensor.h>

#include "common/tensor_checks.h"
#include "space_to_depth/space_to_depth.h"

namespace caffe_compat {

inline SpaceToDepthSizes space_to_depth_sizes(const at::Tensor& input, int64_t block,
                                              at::IntArrayRef padding, at::IntArrayRef out_size) {
  const char* op = "space_to_depth";
  check_rank(op, "input", input, 4);
  CAFFE_COMPAT_CHECK_VALUE(padding.size() == 2 && out_size.size() == 2, op, ": padding ", padding,
                           ", out_size ", out_size, "; expected two numbers each");
  CAFFE_COMPAT_CHECK_VALUE(
      block > 0 && padding[0] >= 0 && padding[1] >= 0 && out_size[0] > 0 && out_size[1] > 0, op,
      ": block ", block, ", padding ", padding, ", out_size ", out_size,
      "; expected block and size of at least 1, padding of at least 0");
  const int64_t filled = input.size(1) * block * block;
  const int64_t depth = (filled + kDepthMultiple - 1) / kDepthMultiple * kDepthMultiple;
  CAFFE_COMPAT_CHECK_VALUE(depth > 0 && depth <= kMostDepth, op, ": input has ", input.size(1),
                           " channels, which make ", depth, " with block ", block,
                           "; expected 1 to ", kMostDepth);
  return {.batch = input.size(0),
          .channels = input.size(1),
          .height = input.size(2),
          .width = input.size(3),
          .stride_n = input.stride(0),
          .stride_c = input.stride(1),
          .stride_h = input.stride(2),
          .stride_w = input.stride(3),
          .out_height = out_size[0],
          .out_width = out_size[1],
          .out_channels = depth,
          .block = block,
          .pad_h = padding[0],
          .pad_w = padding[1]};
}

}  // namespace caffe_compat
