// The CUDA side of torch.ops.caffe_compat.max_pool and relu_pool_lrn.

#include <ATen/Dispatch.h>
#include <ATen/core/Tensor.h>
#include <ATen/cuda/CUDAContext.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <c10/cuda/CUDAGuard.h>
#include <torch/library.h>

#include <algorithm>
#include <tuple>

#include "lrn/lrn_arguments.h"
#include "pool/pool_arguments.h"
#include "pool/pool_kernels.cuh"

namespace caffe_compat {
namespace {

// The kernels count rows and columns in 32 bits; offsets have 64.
void check_fits(const char* op, const PoolSizes& s) {
  const int64_t largest = std::max({s.height, s.width, s.stride_h, s.stride_w});
  CAFFE_COMPAT_CHECK_VALUE(largest < int64_t{1} << 30, op, ": an axis or a stride of ", largest,
                           "; expected less than 2^30 on CUDA");
}

template <typename Run>
void run_for_cuda_type(const at::Tensor& input, const Run& run) {
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, input.scalar_type(), "max_pool",
                                  [&] { run(scalar_t{}, at::cuda::getCurrentCUDAStream()); });
}

std::tuple<at::Tensor, at::Tensor> max_pool_on_cuda(const at::Tensor& input, at::IntArrayRef kernel,
                                                    at::IntArrayRef stride, at::IntArrayRef padding,
                                                    at::IntArrayRef out_size, bool relu) {
  const char* op = "max_pool";
  const c10::cuda::CUDAGuard guard(input.device());
  const PoolOutputs out = pool_outputs(op, input, {kernel, stride, padding, out_size});
  check_fits(op, out.sizes);
  run_for_cuda_type(out.input, [&](auto zero, cudaStream_t stream) {
    using T = decltype(zero);
    max_pool_cuda(out.input.const_data_ptr<T>(), out.output.mutable_data_ptr<T>(),
                  out.tap.mutable_data_ptr<uint8_t>(), out.sizes, relu, stream);
  });
  return {out.output, out.tap};
}

at::Tensor max_pool_backward_on_cuda(const at::Tensor& grad, const at::Tensor& tap, int64_t height,
                                     int64_t width, at::IntArrayRef kernel, at::IntArrayRef stride,
                                     at::IntArrayRef padding) {
  const char* op = "max_pool_backward";
  const c10::cuda::CUDAGuard guard(grad.device());
  const PoolGradient g = pool_gradient(op, grad, tap, height, width, {kernel, stride, padding, {}});
  check_fits(op, g.sizes);
  run_for_cuda_type(g.grad, [&](auto zero, cudaStream_t stream) {
    using T = decltype(zero);
    max_pool_backward_cuda(g.grad.const_data_ptr<T>(), g.tap.const_data_ptr<uint8_t>(),
                           g.input_grad.mutable_data_ptr<T>(), g.sizes, stream);
  });
  return g.input_grad;
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> relu_pool_lrn_on_cuda(
    const at::Tensor& input, at::IntArrayRef kernel, at::IntArrayRef stride,
    at::IntArrayRef padding, at::IntArrayRef out_size, bool relu, int64_t local_size, double alpha,
    double beta, double k) {
  const char* op = "relu_pool_lrn";
  const c10::cuda::CUDAGuard guard(input.device());
  const LrnParams lrn = lrn_params(op, input, local_size, alpha, beta, k, false);
  const PoolOutputs out = pool_outputs(op, input, {kernel, stride, padding, out_size});
  check_fits(op, out.sizes);
  const at::Tensor normed = at::empty_like(out.output);
  run_for_cuda_type(out.input, [&](auto zero, cudaStream_t stream) {
    using T = decltype(zero);
    relu_pool_lrn_cuda(out.input.const_data_ptr<T>(), out.output.mutable_data_ptr<T>(),
                       out.tap.mutable_data_ptr<uint8_t>(), normed.mutable_data_ptr<T>(), out.sizes,
                       relu, lrn, stream);
  });
  return {normed, out.output, out.tap};
}

at::Tensor relu_pool_lrn_backward_on_cuda(const at::Tensor& grad, const at::Tensor& pooled,
                                          const at::Tensor& tap, int64_t height, int64_t width,
                                          at::IntArrayRef kernel, at::IntArrayRef stride,
                                          at::IntArrayRef padding, int64_t local_size, double alpha,
                                          double beta, double k) {
  const char* op = "relu_pool_lrn_backward";
  const c10::cuda::CUDAGuard guard(grad.device());
  const LrnParams lrn = lrn_params(op, pooled, local_size, alpha, beta, k, false);
  check_same_shape(op, "grad", grad, "pooled", pooled);
  check_same_type(op, "grad", grad, "pooled", pooled);
  const PoolGradient g = pool_gradient(op, grad, tap, height, width, {kernel, stride, padding, {}});
  check_fits(op, g.sizes);
  const at::Tensor values = pooled.contiguous(pool_layout(g.tap));
  const at::Tensor workspace = at::empty({relu_pool_lrn_workspace(g.sizes, lrn)}, g.grad.options());
  run_for_cuda_type(g.grad, [&](auto zero, cudaStream_t stream) {
    using T = decltype(zero);
    relu_pool_lrn_backward_cuda(g.grad.const_data_ptr<T>(), values.const_data_ptr<T>(),
                                g.tap.const_data_ptr<uint8_t>(), g.input_grad.mutable_data_ptr<T>(),
                                workspace.mutable_data_ptr<T>(), g.sizes, lrn, stream);
  });
  return g.input_grad;
}

}  // namespace

TORCH_LIBRARY_IMPL(caffe_compat, CUDA, m) {
  m.impl("max_pool", max_pool_on_cuda);
  m.impl("max_pool_backward", max_pool_backward_on_cuda);
  m.impl("relu_pool_lrn", relu_pool_lrn_on_cuda);
  m.impl("relu_pool_lrn_backward", relu_pool_lrn_backward_on_cuda);
}

}  // namespace caffe_compat
