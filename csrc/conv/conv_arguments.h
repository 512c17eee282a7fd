// What both devices do with the operators' arguments before a kernel runs.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

#include "common/checks.h"
#include "conv/conv.h"

namespace caffe_compat {

struct ConvGeometry {
  at::IntArrayRef stride, padding, dilation;
  int64_t groups;
};

// (size + 2 pad - dilation (kernel - 1) - 1) / stride + 1, rounded down: Caffe's and PyTorch's
// rule.
inline int64_t conv_output_size(int64_t size, int64_t kernel, int64_t stride, int64_t pad,
                                int64_t dilation) {
  const int64_t room = size + 2 * pad - dilation * (kernel - 1) - 1;
  return room < 0 ? 0 : room / stride + 1;
}

inline ConvSizes conv_sizes(const char* op, at::IntArrayRef input, at::IntArrayRef weight,
                            const ConvGeometry& g) {
  TORCH_CHECK_VALUE(input.size() == 4 && weight.size() == 4, op, ": input is ", input,
                    " and weight ", weight, "; expected 4 axes each");
  TORCH_CHECK_VALUE(g.stride.size() == 2 && g.padding.size() == 2 && g.dilation.size() == 2, op,
                    ": stride ", g.stride, ", padding ", g.padding, ", dilation ", g.dilation,
                    "; expected two numbers each");
  for (int i = 0; i < 2; ++i) {
    TORCH_CHECK_VALUE(g.stride[i] > 0 && g.dilation[i] > 0 && g.padding[i] >= 0, op, ": stride ",
                      g.stride, ", padding ", g.padding, ", dilation ", g.dilation,
                      "; expected stride and dilation of at least 1, padding of at least 0");
  }
  TORCH_CHECK_VALUE(g.groups > 0 && input[1] == weight[1] * g.groups && weight[0] % g.groups == 0,
                    op, ": input ", input, ", weight ", weight, ", groups ", g.groups,
                    "; expected input channels = groups * weight.size(1) and output channels "
                    "divisible by groups");
  const int64_t out_h =
      conv_output_size(input[2], weight[2], g.stride[0], g.padding[0], g.dilation[0]);
  const int64_t out_w =
      conv_output_size(input[3], weight[3], g.stride[1], g.padding[1], g.dilation[1]);
  TORCH_CHECK_VALUE(weight[2] > 0 && weight[3] > 0 && out_h > 0 && out_w > 0, op, ": kernel ",
                    weight.slice(2), " does not fit into input ", input, " with padding ",
                    g.padding, " and dilation ", g.dilation);
  return {input[0],     input[1],      input[2],      input[3],    weight[0],   out_h,
          out_w,        weight[2],     weight[3],     g.stride[0], g.stride[1], g.padding[0],
          g.padding[1], g.dilation[0], g.dilation[1], g.groups};
}

// The grad that comes in must have the output's shape.
inline void check_conv_grad(const char* op, const at::Tensor& grad, const ConvSizes& s) {
  const int64_t expected[] = {s.batch, s.outputs, s.out_height, s.out_width};
  TORCH_CHECK_VALUE(grad.sizes() == at::IntArrayRef(expected), op, ": grad is ", describe(grad),
                    "; expected ", at::IntArrayRef(expected));
}

inline ConvSizes conv_input_grad_sizes(const at::Tensor& grad, const at::Tensor& weight,
                                       int64_t height, int64_t width, const ConvGeometry& g) {
  const char* op = "conv_input_grad";
  check_rank(op, "grad", grad, 4);
  check_rank(op, "weight", weight, 4);
  const ConvSizes s =
      conv_sizes(op, {grad.size(0), weight.size(1) * g.groups, height, width}, weight.sizes(), g);
  check_conv_grad(op, grad, s);
  check_same_type(op, "weight", weight, "grad", grad);
  return s;
}

inline ConvSizes conv_weight_grad_sizes(const at::Tensor& grad, const at::Tensor& input,
                                        int64_t kernel_h, int64_t kernel_w, const ConvGeometry& g) {
  const char* op = "conv_weight_grad";
  check_rank(op, "grad", grad, 4);
  check_rank(op, "input", input, 4);
  const int64_t group_channels = g.groups > 0 ? input.size(1) / g.groups : 0;
  const ConvSizes s =
      conv_sizes(op, input.sizes(), {grad.size(1), group_channels, kernel_h, kernel_w}, g);
  check_conv_grad(op, grad, s);
  check_same_type(op, "input", input, "grad", grad);
  return s;
}

inline void check_conv_bias(const char* op, const std::optional<at::Tensor>& bias,
                            const at::Tensor& input, const ConvSizes& s) {
  if (!bias) return;
  TORCH_CHECK_VALUE(bias->dim() == 1 && bias->size(0) == s.outputs, op, ": bias is ",
                    describe(*bias), "; expected [", s.outputs, "]");
  check_same_type(op, "bias", *bias, "input", input);
}

}  // namespace caffe_compat
