// torch.ops.caffe_compat.conv and its two gradients: schemas and autocast.  Autograd and fake
// kernels are in caffe_compat/ops/conv.py.

#include <ATen/autocast_mode.h>
#include <ATen/core/Tensor.h>
#include <torch/library.h>

namespace caffe_compat {
namespace {

at::Tensor conv_autocast(at::ScalarType type, c10::DeviceType device, c10::DispatchKey key,
                         const at::Tensor& input, const at::Tensor& weight,
                         const std::optional<at::Tensor>& bias, at::IntArrayRef stride,
                         at::IntArrayRef padding, at::IntArrayRef dilation, int64_t groups) {
  using Op = at::Tensor(const at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&,
                        at::IntArrayRef, at::IntArrayRef, at::IntArrayRef, int64_t);
  static const auto op =
      c10::Dispatcher::singleton().findSchemaOrThrow("caffe_compat::conv", "").typed<Op>();
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(key);
  const auto cast = [&](const at::Tensor& t) { return at::autocast::cached_cast(type, t, device); };
  return op.call(cast(input), cast(weight), bias ? std::optional(cast(*bias)) : bias, stride,
                 padding, dilation, groups);
}

// The CPU kernels have no 16-bit form, so autocast leaves them in float32 there.
at::Tensor conv_autocast_cpu(const at::Tensor& input, const at::Tensor& weight,
                             const std::optional<at::Tensor>& bias, at::IntArrayRef stride,
                             at::IntArrayRef padding, at::IntArrayRef dilation, int64_t groups) {
  return conv_autocast(at::kFloat, c10::DeviceType::CPU, c10::DispatchKey::AutocastCPU, input,
                       weight, bias, stride, padding, dilation, groups);
}

at::Tensor conv_autocast_cuda(const at::Tensor& input, const at::Tensor& weight,
                              const std::optional<at::Tensor>& bias, at::IntArrayRef stride,
                              at::IntArrayRef padding, at::IntArrayRef dilation, int64_t groups) {
  return conv_autocast(at::autocast::get_autocast_dtype(at::kCUDA), c10::DeviceType::CUDA,
                       c10::DispatchKey::AutocastCUDA, input, weight, bias, stride, padding,
                       dilation, groups);
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(caffe_compat, m) {
  m.def(
      "conv(Tensor input, Tensor weight, Tensor? bias, int[2] stride, int[2] padding, int[2] "
      "dilation, int groups) -> Tensor");
  m.def(
      "conv_input_grad(Tensor grad, Tensor weight, SymInt height, SymInt width, int[2] stride, "
      "int[2] padding, int[2] dilation, int groups) -> Tensor");
  m.def(
      "conv_weight_grad(Tensor grad, Tensor input, SymInt kernel_h, SymInt kernel_w, int[2] "
      "stride, int[2] padding, int[2] dilation, int groups) -> Tensor");
}

TORCH_LIBRARY_IMPL(caffe_compat, AutocastCPU, m) { m.impl("conv", conv_autocast_cpu); }
TORCH_LIBRARY_IMPL(caffe_compat, AutocastCUDA, m) { m.impl("conv", conv_autocast_cuda); }

}  // namespace caffe_compat
