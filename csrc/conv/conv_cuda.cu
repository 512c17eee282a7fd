// The CUDA side of torch.ops.caffe_compat.conv and its gradients.

#include <ATen/Context.h>
#include <ATen/Dispatch.h>
#include <ATen/core/Tensor.h>
#include <ATen/cuda/CUDAContext.h>
#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAGuard.h>
#include <torch/library.h>

#include <limits>

#include "conv/conv_arguments.h"
#include "conv/conv_kernels.cuh"

namespace caffe_compat {
namespace {

#define DISPATCH(type, name, ...) \
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, type, name, __VA_ARGS__)

// float32 keeps its accuracy unless the user allowed TF32 for matrix products; 16-bit numbers fit
// into TF32.
ConvMath choose_math(at::ScalarType type) {
  if (type != at::kFloat || at::globalContext().allowTF32CuBLAS()) return ConvMath::kTf32;
  return ConvMath::kSplitTf32;
}

// What the kernels hold in 32 bits, and what CUDA's grids allow.
void check_conv_limits(const char* op, const ConvSizes& s) {
  constexpr int64_t most = std::numeric_limits<int32_t>::max();
  const int64_t padded = (s.height + 2 * s.pad_h) * (s.width + 2 * s.pad_w);
  const bool fits = padded <= most && s.outputs * s.taps() <= most && s.depth() <= most &&
                    s.dilation_h * s.kernel_h <= most && s.dilation_w * s.kernel_w <= most &&
                    s.batch * std::max(s.pixels(), s.out_pixels()) / 64 < most;
  TORCH_CHECK_VALUE(fits && s.groups <= 65535 && s.group_outputs() <= 65535 * 64 &&
                        s.group_channels() <= 65535 * 64,
                    op, ": input [", s.batch, ", ", s.channels, ", ", s.height, ", ", s.width,
                    "] with ", s.outputs, " outputs and ", s.groups,
                    " groups; expected at most 2^31 padded pixels, 2^31 weights an output "
                    "and 65535 groups on CUDA");
}

at::Tensor conv_on_cuda(const at::Tensor& input, const at::Tensor& weight,
                        const std::optional<at::Tensor>& bias, at::IntArrayRef stride,
                        at::IntArrayRef padding, at::IntArrayRef dilation, int64_t groups) {
  const ConvSizes s =
      conv_sizes("conv", input.sizes(), weight.sizes(), {stride, padding, dilation, groups});
  check_same_type("conv", "weight", weight, "input", input);
  check_conv_bias("conv", bias, input, s);
  check_conv_limits("conv", s);
  const c10::cuda::CUDAGuard guard(input.device());
  const at::Tensor x = input.contiguous(), w = weight.contiguous();
  const at::Tensor b = bias ? bias->contiguous() : at::Tensor();
  at::Tensor y = at::empty({s.batch, s.outputs, s.out_height, s.out_width}, x.options());
  DISPATCH(x.scalar_type(), "conv", [&] {
    conv_forward_cuda(x.const_data_ptr<scalar_t>(), w.const_data_ptr<scalar_t>(),
                      bias ? b.const_data_ptr<scalar_t>() : nullptr, y.mutable_data_ptr<scalar_t>(),
                      s, choose_math(x.scalar_type()), at::cuda::getCurrentCUDAStream());
  });
  return y;
}

at::Tensor conv_input_grad_on_cuda(const at::Tensor& grad, const at::Tensor& weight, int64_t height,
                                   int64_t width, at::IntArrayRef stride, at::IntArrayRef padding,
                                   at::IntArrayRef dilation, int64_t groups) {
  const ConvSizes s =
      conv_input_grad_sizes(grad, weight, height, width, {stride, padding, dilation, groups});
  check_conv_limits("conv_input_grad", s);
  const c10::cuda::CUDAGuard guard(grad.device());
  const at::Tensor dy = grad.contiguous(), w = weight.contiguous();
  at::Tensor dx = at::empty({s.batch, s.channels, s.height, s.width}, dy.options());
  DISPATCH(dy.scalar_type(), "conv_input_grad", [&] {
    conv_input_grad_cuda(dy.const_data_ptr<scalar_t>(), w.const_data_ptr<scalar_t>(),
                         dx.mutable_data_ptr<scalar_t>(), s, choose_math(dy.scalar_type()),
                         at::cuda::getCurrentCUDAStream());
  });
  return dx;
}

at::Tensor conv_weight_grad_on_cuda(const at::Tensor& grad, const at::Tensor& input,
                                    int64_t kernel_h, int64_t kernel_w, at::IntArrayRef stride,
                                    at::IntArrayRef padding, at::IntArrayRef dilation,
                                    int64_t groups) {
  const ConvSizes s =
      conv_weight_grad_sizes(grad, input, kernel_h, kernel_w, {stride, padding, dilation, groups});
  check_conv_limits("conv_weight_grad", s);
  const c10::cuda::CUDAGuard guard(grad.device());
  const at::Tensor dy = grad.contiguous(), x = input.contiguous();
  at::Tensor dw = at::empty({s.outputs, s.group_channels(), s.kernel_h, s.kernel_w}, dy.options());
  DISPATCH(dy.scalar_type(), "conv_weight_grad", [&] {
    using A = compute_t<scalar_t>;
    const at::Tensor partial = at::empty({conv_weight_grad_parts(s) * dw.numel()},
                                         dy.options().dtype(c10::CppTypeToScalarType<A>::value));
    conv_weight_grad_cuda(dy.const_data_ptr<scalar_t>(), x.const_data_ptr<scalar_t>(),
                          dw.mutable_data_ptr<scalar_t>(), partial.mutable_data_ptr<A>(), s,
                          choose_math(dy.scalar_type()), at::cuda::getCurrentCUDAStream());
  });
  return dw;
}

}  // namespace

TORCH_LIBRARY_IMPL(caffe_compat, CUDA, m) {
  m.impl("conv", conv_on_cuda);
  m.impl("conv_input_grad", conv_input_grad_on_cuda);
  m.impl("conv_weight_grad", conv_weight_grad_on_cuda);
}

}  // namespace caffe_compat
