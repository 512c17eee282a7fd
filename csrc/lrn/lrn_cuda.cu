// The CUDA side of torch.ops.caffe_compat.lrn.

#include <ATen/Dispatch.h>
#include <ATen/core/Tensor.h>
#include <ATen/cuda/CUDAContext.h>
#include <ATen/ops/empty_like.h>
#include <c10/cuda/CUDAGuard.h>
#include <torch/library.h>

#include "lrn/lrn_arguments.h"
#include "lrn/lrn_kernels.cuh"

namespace caffe_compat {
namespace {

at::Tensor lrn_on_cuda(const at::Tensor& input, int64_t local_size, double alpha, double beta,
                       double k, bool within_channel) {
  const LrnParams params = lrn_params("lrn", input, local_size, alpha, beta, k, within_channel);
  const c10::cuda::CUDAGuard guard(input.device());
  const at::Tensor x = input.contiguous(lrn_layout(input));
  at::Tensor y = at::empty_like(x);
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, x.scalar_type(), "lrn", [&] {
    lrn_forward_cuda(x.const_data_ptr<scalar_t>(), y.mutable_data_ptr<scalar_t>(), lrn_shape(x),
                     params, at::cuda::getCurrentCUDAStream());
  });
  return y;
}

at::Tensor lrn_backward_on_cuda(const at::Tensor& grad, const at::Tensor& input, int64_t local_size,
                                double alpha, double beta, double k, bool within_channel) {
  const LrnParams params =
      lrn_params("lrn_backward", input, local_size, alpha, beta, k, within_channel);
  check_same_shape("lrn_backward", "grad", grad, "input", input);
  check_same_type("lrn_backward", "grad", grad, "input", input);
  const c10::cuda::CUDAGuard guard(input.device());
  const at::Tensor x = input.contiguous(lrn_layout(input));
  const at::Tensor dy = grad.contiguous(lrn_layout(input));
  at::Tensor dx = at::empty_like(x);
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, x.scalar_type(), "lrn_backward", [&] {
    lrn_backward_cuda(dy.const_data_ptr<scalar_t>(), x.const_data_ptr<scalar_t>(),
                      dx.mutable_data_ptr<scalar_t>(), lrn_shape(x), params,
                      at::cuda::getCurrentCUDAStream());
  });
  return dx;
}

}  // namespace

TORCH_LIBRARY_IMPL(caffe_compat, CUDA, m) {
  m.impl("lrn", lrn_on_cuda);
  m.impl("lrn_backward", lrn_backward_on_cuda);
}

}  // namespace caffe_compat
