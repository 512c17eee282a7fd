// Our CUDA kernels as operators: conv_kernel and those of its gradients.  For each call of
// torch.ops.caffe_compat.conv caffe_compat/ops/conv_choice.py chooses between them and cuDNN.

#include <ATen/Context.h>
#include <ATen/Dispatch.h>
#include <ATen/core/Tensor.h>
#include <ATen/cuda/CUDAContext.h>
#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAGuard.h>
#include <torch/library.h>

#include <limits>
#include <type_traits>

#include "conv/conv_arguments.h"
#include "conv/conv_kernels.cuh"
#include "conv/nhwc/nhwc_cuda.h"

namespace caffe_compat {
namespace {

#define DISPATCH(type, name, ...) \
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, type, name, __VA_ARGS__)

// What PyTorch's own switch for matrix products says (fp32_precision).  allowTF32CuBLAS() reads the
// older switch, too, and raises where the two differ.  Their names are strings up to PyTorch 2.10.
template <typename Precision, typename Backend, typename Operation>
bool is_tf32(Precision (at::Context::*precision)(Backend, Operation) const) {
  if constexpr (std::is_enum_v<Precision>) {
    return (at::globalContext().*precision)(Backend::CUDA, Operation::MATMUL) == Precision::TF32;
  } else {
    return (at::globalContext().*precision)("cuda", "matmul") == "tf32";
  }
}

// float32 keeps its accuracy unless the user allowed TF32 for matrix products; 16-bit numbers fit
// into TF32.
ConvMath choose_math(at::ScalarType type) {
  const bool tf32 = type != at::kFloat || is_tf32(&at::Context::float32Precision);
  return tf32 ? ConvMath::kTf32 : ConvMath::kSplitTf32;
}

// Refuses what the kernels cannot count in 32 bits or CUDA's grids cannot hold.
void check_conv_limits(const char* op, const ConvSizes& s) {
  constexpr int64_t most = std::numeric_limits<int32_t>::max();
  const int64_t padded = (s.height + 2 * s.pad_h) * (s.width + 2 * s.pad_w);
  const bool fits = padded <= most && s.outputs * s.taps() <= most && s.depth() <= most &&
                    s.dilation_h * s.kernel_h <= most && s.dilation_w * s.kernel_w <= most &&
                    s.batch * std::max(s.pixels(), s.out_pixels()) / 64 < most;
  CAFFE_COMPAT_CHECK_VALUE(fits && s.groups <= kMostGridYZ &&
                               s.group_outputs() <= kMostGridYZ * 64 &&
                               s.group_channels() <= kMostGridYZ * 64,
                           op, ": input [", s.batch, ", ", s.channels, ", ", s.height, ", ",
                           s.width, "] with ", s.outputs, " outputs and ", s.groups,
                           " groups; expected at most 2^31 padded pixels, 2^31 weights an output "
                           "and 65535 groups on CUDA");
}

// Of the NCHW kernels' result, which run where nobody asks for channels_last and where the NHWC
// kernels do not take the sizes: channels_last exactly when that was asked for.
at::Tensor to_layout(const at::Tensor& result, bool channels_last) {
  return channels_last ? result.contiguous(at::MemoryFormat::ChannelsLast) : result;
}

at::Tensor conv_on_cuda(const at::Tensor& input, const at::Tensor& weight,
                        const std::optional<at::Tensor>& bias, at::IntArrayRef stride,
                        at::IntArrayRef padding, at::IntArrayRef dilation, int64_t groups,
                        bool relu, bool channels_last) {
  const ConvWindow window = conv_window("conv", stride, padding, dilation, groups);
  const ConvSizes s = conv_sizes("conv", input.sizes(), weight.sizes(), window);
  check_same_type("conv", "weight", weight, "input", input);
  check_conv_bias("conv", bias, input, s);
  check_conv_limits("conv", s);
  const c10::cuda::CUDAGuard guard(input.device());
  const ConvMath math = choose_math(input.scalar_type());
  if (channels_last && conv_nhwc_takes(s, input.scalar_type())) {
    return conv_nhwc(input, weight, bias, s, relu, math);
  }
  const at::Tensor x = input.contiguous(), w = weight.contiguous();
  const at::Tensor b = bias ? bias->contiguous() : at::Tensor();
  const at::Tensor y = at::empty({s.batch, s.outputs, s.out_height, s.out_width}, x.options());
  DISPATCH(x.scalar_type(), "conv", [&] {
    conv_forward_cuda(x.const_data_ptr<scalar_t>(), w.const_data_ptr<scalar_t>(),
                      bias ? b.const_data_ptr<scalar_t>() : nullptr, y.mutable_data_ptr<scalar_t>(),
                      s, relu, math, at::cuda::getCurrentCUDAStream());
  });
  return to_layout(y, channels_last);
}

at::Tensor conv_input_grad_on_cuda(const at::Tensor& grad, const at::Tensor& weight, int64_t height,
                                   int64_t width, at::IntArrayRef stride, at::IntArrayRef padding,
                                   at::IntArrayRef dilation, int64_t groups, bool channels_last) {
  const ConvWindow window = conv_window("conv_input_grad", stride, padding, dilation, groups);
  const ConvSizes s = conv_input_grad_sizes(grad, weight, height, width, window);
  check_conv_limits("conv_input_grad", s);
  const c10::cuda::CUDAGuard guard(grad.device());
  const ConvMath math = choose_math(grad.scalar_type());
  if (channels_last && conv_nhwc_takes(s, grad.scalar_type())) {
    return conv_nhwc_input_grad(grad, weight, s, math);
  }
  const at::Tensor dy = grad.contiguous(), w = weight.contiguous();
  const at::Tensor dx = at::empty({s.batch, s.channels, s.height, s.width}, dy.options());
  DISPATCH(dy.scalar_type(), "conv_input_grad", [&] {
    conv_input_grad_cuda(dy.const_data_ptr<scalar_t>(), w.const_data_ptr<scalar_t>(),
                         dx.mutable_data_ptr<scalar_t>(), s, math,
                         at::cuda::getCurrentCUDAStream());
  });
  return to_layout(dx, channels_last);
}

at::Tensor conv_weight_grad_on_cuda(const at::Tensor& grad, const at::Tensor& input,
                                    int64_t kernel_h, int64_t kernel_w, at::IntArrayRef stride,
                                    at::IntArrayRef padding, at::IntArrayRef dilation,
                                    int64_t groups, bool channels_last) {
  const ConvWindow window = conv_window("conv_weight_grad", stride, padding, dilation, groups);
  const ConvSizes s = conv_weight_grad_sizes(grad, input, kernel_h, kernel_w, window);
  check_conv_limits("conv_weight_grad", s);
  const c10::cuda::CUDAGuard guard(grad.device());
  const ConvMath math = choose_math(grad.scalar_type());
  if (channels_last && conv_nhwc_takes(s, grad.scalar_type())) {
    return conv_nhwc_weight_grad(grad, input, s, math);
  }
  const at::Tensor dy = grad.contiguous(), x = input.contiguous();
  const at::Tensor dw =
      at::empty({s.outputs, s.group_channels(), s.kernel_h, s.kernel_w}, dy.options());
  DISPATCH(dy.scalar_type(), "conv_weight_grad", [&] {
    using A = compute_t<scalar_t>;
    const at::Tensor partial = at::empty({conv_weight_grad_splits(s) * dw.numel()},
                                         dy.options().dtype(c10::CppTypeToScalarType<A>::value));
    conv_weight_grad_cuda(dy.const_data_ptr<scalar_t>(), x.const_data_ptr<scalar_t>(),
                          dw.mutable_data_ptr<scalar_t>(), partial.mutable_data_ptr<A>(), s, math,
                          at::cuda::getCurrentCUDAStream());
  });
  return dw;
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(caffe_compat, m) {
  m.def(
      "conv_kernel(Tensor input, Tensor weight, Tensor? bias, int[2] stride, int[2] padding, "
      "int[2] dilation, int groups, bool relu, bool channels_last) -> Tensor");
  m.def(
      "conv_input_grad_kernel(Tensor grad, Tensor weight, SymInt height, SymInt width, int[2] "
      "stride, int[2] padding, int[2] dilation, int groups, bool channels_last) -> Tensor");
  m.def(
      "conv_weight_grad_kernel(Tensor grad, Tensor input, SymInt kernel_h, SymInt kernel_w, int[2] "
      "stride, int[2] padding, int[2] dilation, int groups, bool channels_last) -> Tensor");
}

TORCH_LIBRARY_IMPL(caffe_compat, CUDA, m) {
  m.impl("conv_kernel", conv_on_cuda);
  m.impl("conv_input_grad_kernel", conv_input_grad_on_cuda);
  m.impl("conv_weight_grad_kernel", conv_weight_grad_on_cuda);
}

}  // namespace caffe_compat
