// torch.ops.caffe_compat.conv, conv_relu and their two gradients: schemas and autocast.  Fake
// kernels are in caffe_compat/ops/conv.py, the CUDA side in caffe_compat/ops/conv_choice.py.

#include <ATen/autocast_mode.h>
#include <ATen/core/Tensor.h>
#include <torch/library.h>

namespace caffe_compat {
namespace {

using Op = at::Tensor(const at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&,
                      at::IntArrayRef, at::IntArrayRef, at::IntArrayRef, int64_t);

const c10::TypedOperatorHandle<Op>& find(bool relu) {
  const auto find_named = [](const char* name) {
    return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Op>();
  };
  static const auto conv = find_named("caffe_compat::conv");
  static const auto conv_relu = find_named("caffe_compat::conv_relu");
  return relu ? conv_relu : conv;
}

// The CPU kernels have no 16-bit form, so autocast leaves them in float32 there.
template <bool relu, c10::DeviceType device>
at::Tensor conv_autocast(const at::Tensor& input, const at::Tensor& weight,
                         const std::optional<at::Tensor>& bias, at::IntArrayRef stride,
                         at::IntArrayRef padding, at::IntArrayRef dilation, int64_t groups) {
  const bool cuda = device == c10::DeviceType::CUDA;
  const auto type = cuda ? at::autocast::get_autocast_dtype(at::kCUDA) : at::kFloat;
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(cuda ? c10::DispatchKey::AutocastCUDA
                                                            : c10::DispatchKey::AutocastCPU);
  const auto cast = [&](const at::Tensor& t) { return at::autocast::cached_cast(type, t, device); };
  return find(relu).call(cast(input), cast(weight), bias ? std::optional(cast(*bias)) : bias,
                         stride, padding, dilation, groups);
}

at::Tensor conv_relu_cpu(const at::Tensor& input, const at::Tensor& weight,
                         const std::optional<at::Tensor>& bias, at::IntArrayRef stride,
                         at::IntArrayRef padding, at::IntArrayRef dilation, int64_t groups) {
  return find(false).call(input, weight, bias, stride, padding, dilation, groups).relu_();
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(caffe_compat, m) {
  m.def(
      "conv(Tensor input, Tensor weight, Tensor? bias, int[2] stride, int[2] padding, int[2] "
      "dilation, int groups) -> Tensor");
  m.def(
      "conv_relu(Tensor input, Tensor weight, Tensor? bias, int[2] stride, int[2] padding, int[2] "
      "dilation, int groups) -> Tensor");
  m.def(
      "conv_input_grad(Tensor grad, Tensor weight, SymInt height, SymInt width, int[2] stride, "
      "int[2] padding, int[2] dilation, int groups) -> Tensor");
  m.def(
      "conv_weight_grad(Tensor grad, Tensor input, SymInt kernel_h, SymInt kernel_w, int[2] "
      "stride, int[2] padding, int[2] dilation, int groups) -> Tensor");
}

TORCH_LIBRARY_IMPL(caffe_compat, CPU, m) { m.impl("conv_relu", conv_relu_cpu); }

TORCH_LIBRARY_IMPL(caffe_compat, AutocastCPU, m) {
  m.impl("conv", conv_autocast<false, c10::DeviceType::CPU>);
  m.impl("conv_relu", conv_autocast<true, c10::DeviceType::CPU>);
}
TORCH_LIBRARY_IMPL(caffe_compat, AutocastCUDA, m) {
  m.impl("conv", conv_autocast<false, c10::DeviceType::CUDA>);
  m.impl("conv_relu", conv_autocast<true, c10::DeviceType::CUDA>);
}

}  // namespace caffe_compat
