// What both devices do with the operators' arguments before a kernel runs.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

#include "common/tensor_checks.h"
#include "conv/conv.h"

namespace caffe_compat {

// The operators' flat arguments as a ConvWindow.
inline ConvWindow conv_window(const char* op, at::IntArrayRef stride, at::IntArrayRef padding,
                              at::IntArrayRef dilation, int64_t groups) {
  CAFFE_COMPAT_CHECK_VALUE(stride.size() == 2 && padding.size() == 2 && dilation.size() == 2, op,
                           ": stride ", stride, ", padding ", padding, ", dilation ", dilation,
                           "; expected two numbers each");
  for (int i = 0; i < 2; ++i) {
    CAFFE_COMPAT_CHECK_VALUE(stride[i] > 0 && dilation[i] > 0 && padding[i] >= 0, op, ": stride ",
                             stride, ", padding ", padding, ", dilation ", dilation,
                             "; expected stride and dilation of at least 1, padding of at least 0");
  }
  return {.stride = {stride[0], stride[1]},
          .padding = {padding[0], padding[1]},
          .dilation = {dilation[0], dilation[1]},
          .groups = groups};
}

// (size + 2 pad - dilation (kernel - 1) - 1) / stride + 1, rounded down: Caffe's and PyTorch's
// rule.
inline int64_t conv_output_size(int64_t size, int64_t kernel, const ConvWindow& w, int axis) {
  const int64_t room = size + 2 * w.padding[axis] - w.dilation[axis] * (kernel - 1) - 1;
  return room < 0 ? 0 : room / w.stride[axis] + 1;
}

inline ConvSizes conv_sizes(const char* op, at::IntArrayRef input, at::IntArrayRef weight,
                            const ConvWindow& w) {
  CAFFE_COMPAT_CHECK_VALUE(input.size() == 4 && weight.size() == 4, op, ": input is ", input,
                           " and weight ", weight, "; expected 4 axes each");
  CAFFE_COMPAT_CHECK_VALUE(
      w.groups > 0 && input[1] == weight[1] * w.groups && weight[0] % w.groups == 0, op, ": input ",
      input, ", weight ", weight, ", groups ", w.groups,
      "; expected input channels = groups * weight.size(1) and output channels "
      "divisible by groups");
  const int64_t out_h = conv_output_size(input[2], weight[2], w, 0);
  const int64_t out_w = conv_output_size(input[3], weight[3], w, 1);
  CAFFE_COMPAT_CHECK_VALUE(weight[2] > 0 && weight[3] > 0 && out_h > 0 && out_w > 0, op,
                           ": kernel ", weight.slice(2), " does not fit into input ", input,
                           " with padding ", at::IntArrayRef(w.padding), " and dilation ",
                           at::IntArrayRef(w.dilation));
  return {.batch = input[0],
          .channels = input[1],
          .height = input[2],
          .width = input[3],
          .outputs = weight[0],
          .out_height = out_h,
          .out_width = out_w,
          .kernel_h = weight[2],
          .kernel_w = weight[3],
          .stride_h = w.stride[0],
          .stride_w = w.stride[1],
          .pad_h = w.padding[0],
          .pad_w = w.padding[1],
          .dilation_h = w.dilation[0],
          .dilation_w = w.dilation[1],
          .groups = w.groups};
}

// The grad that comes in must have the output's shape.
inline void check_conv_grad(const char* op, const at::Tensor& grad, const ConvSizes& s) {
  const int64_t expected[] = {s.batch, s.outputs, s.out_height, s.out_width};
  CAFFE_COMPAT_CHECK_VALUE(grad.sizes() == at::IntArrayRef(expected), op, ": grad is ",
                           describe(grad), "; expected ", at::IntArrayRef(expected));
}

inline ConvSizes conv_input_grad_sizes(const at::Tensor& grad, const at::Tensor& weight,
                                       int64_t height, int64_t width, const ConvWindow& w) {
  const char* op = "conv_input_grad";
  check_rank(op, "grad", grad, 4);
  check_rank(op, "weight", weight, 4);
  const ConvSizes s =
      conv_sizes(op, {grad.size(0), weight.size(1) * w.groups, height, width}, weight.sizes(), w);
  check_conv_grad(op, grad, s);
  check_same_type(op, "weight", weight, "grad", grad);
  return s;
}

inline ConvSizes conv_weight_grad_sizes(const at::Tensor& grad, const at::Tensor& input,
                                        int64_t kernel_h, int64_t kernel_w, const ConvWindow& w) {
  const char* op = "conv_weight_grad";
  check_rank(op, "grad", grad, 4);
  check_rank(op, "input", input, 4);
  const int64_t group_channels = w.groups > 0 ? input.size(1) / w.groups : 0;
  const ConvSizes s =
      conv_sizes(op, input.sizes(), {grad.size(1), group_channels, kernel_h, kernel_w}, w);
  check_conv_grad(op, grad, s);
  check_same_type(op, "input", input, "grad", grad);
  return s;
}

inline void check_conv_bias(const char* op, const std::optional<at::Tensor>& bias,
                            const at::Tensor& input, const ConvSizes& s) {
  if (!bias) return;
  CAFFE_COMPAT_CHECK_VALUE(bias->dim() == 1 && bias->size(0) == s.outputs, op, ": bias is ",
                           describe(*bias), "; expected [", s.outputs, "]");
  check_same_type(op, "bias", *bias, "input", input);
}

}  // namespace caffe_compat
