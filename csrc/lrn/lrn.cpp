// torch.ops.caffe_compat.lrn and lrn_backward: schemas, checks, the CPU side, autocast.  Fake
// kernels are in caffe_compat/ops/lrn.py.

#include <ATen/autocast_mode.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include "common/cpu_types.h"
#include "lrn/lrn_arguments.h"
#include "lrn/lrn_cpu.h"

namespace caffe_compat {
namespace {

at::Tensor lrn_cpu(const at::Tensor& input, int64_t local_size, double alpha, double beta, double k,
                   bool within_channel) {
  const LrnParams params = lrn_params("lrn", input, local_size, alpha, beta, k, within_channel);
  const at::Tensor x = input.contiguous(lrn_layout(input));
  at::Tensor y = at::empty_like(x);
  run_for_cpu_type("lrn", x, [&](auto zero) {
    using T = decltype(zero);
    lrn_forward_cpu(x.const_data_ptr<T>(), y.mutable_data_ptr<T>(), lrn_shape(x), params);
  });
  return y;
}

at::Tensor lrn_backward_cpu_op(const at::Tensor& grad, const at::Tensor& input, int64_t local_size,
                               double alpha, double beta, double k, bool within_channel) {
  const LrnParams params =
      lrn_params("lrn_backward", input, local_size, alpha, beta, k, within_channel);
  check_same_shape("lrn_backward", "grad", grad, "input", input);
  check_same_type("lrn_backward", "grad", grad, "input", input);
  const at::Tensor x = input.contiguous(lrn_layout(input));
  const at::Tensor dy = grad.contiguous(lrn_layout(input));
  at::Tensor dx = at::empty_like(x);
  run_for_cpu_type("lrn_backward", x, [&](auto zero) {
    using T = decltype(zero);
    lrn_backward_cpu(dy.const_data_ptr<T>(), x.const_data_ptr<T>(), dx.mutable_data_ptr<T>(),
                     lrn_shape(x), params);
  });
  return dx;
}

// The CPU kernels have no 16-bit form.  On CUDA there is nothing to cast: all types accumulate in
// float32 or better.
at::Tensor lrn_autocast_cpu(const at::Tensor& input, int64_t local_size, double alpha, double beta,
                            double k, bool within_channel) {
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::DispatchKey::AutocastCPU);
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("caffe_compat::lrn", "")
                             .typed<decltype(lrn_cpu)>();
  return op.call(at::autocast::cached_cast(at::kFloat, input, c10::DeviceType::CPU), local_size,
                 alpha, beta, k, within_channel);
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(caffe_compat, m) {
  m.def(
      "lrn(Tensor input, int local_size, float alpha, float beta, float k, bool within_channel) -> "
      "Tensor");
  m.def(
      "lrn_backward(Tensor grad, Tensor input, int local_size, float alpha, float beta, float k, "
      "bool within_channel) -> Tensor");
}

TORCH_LIBRARY_IMPL(caffe_compat, CPU, m) {
  m.impl("lrn", lrn_cpu);
  m.impl("lrn_backward", lrn_backward_cpu_op);
}

TORCH_LIBRARY_IMPL(caffe_compat, AutocastCPU, m) { m.impl("lrn", lrn_autocast_cpu); }

}  // namespace caffe_compat
