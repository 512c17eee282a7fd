// What both devices do with the operator's arguments before a kernel runs.
#pragma once

#include <ATen/core/Tensor.h>

#include "common/tensor_checks.h"
#include "lrn/lrn.h"

namespace caffe_compat {

inline LrnParams lrn_params(const char* op, const at::Tensor& input, int64_t local_size,
                            double alpha, double beta, double k, bool within_channel) {
  check_rank(op, "input", input, 4);
  CAFFE_COMPAT_CHECK_VALUE(local_size > 0 && local_size % 2 == 1, op, ": local_size is ",
                           local_size, "; expected an odd number, as in Caffe");
  return {
      .size = local_size, .alpha = alpha, .beta = beta, .k = k, .within_channel = within_channel};
}

// The layout to compute in: channels last where the input has it, else (N, C, H, W).
inline at::MemoryFormat lrn_layout(const at::Tensor& input) {
  return !input.is_contiguous() && input.is_contiguous(at::MemoryFormat::ChannelsLast)
             ? at::MemoryFormat::ChannelsLast
             : at::MemoryFormat::Contiguous;
}

inline LrnShape lrn_shape(const at::Tensor& dense) {
  return {.batch = dense.size(0),
          .channels = dense.size(1),
          .height = dense.size(2),
          .width = dense.size(3),
          .channels_last = !dense.is_contiguous()};
}

}  // namespace caffe_compat
