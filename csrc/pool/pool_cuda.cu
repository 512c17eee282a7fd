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
  TORCH_CHECK_VALUE(largest < int64_t{1} << 30, op, ": an axis or a stride of ", largest,
                    "; expected less than 2^30 on CUDA");
}

at::Tensor empty_output(const at::Tensor& like, const PoolSizes& s, int64_t height, int64_t width,
                        at::ScalarType type) {
  const auto layout =
      s.channels_last ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous;
  return at::empty({s.batch, s.channels, height, width}, like.options().dtype(type), layout);
}

template <typename Run>
void run_for_cuda_type(const at::Tensor& input, const Run& run) {
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, input.scalar_type(), "max_pool",
                                  [&] { run(scalar_t{}, at::cuda::getCurrentCUDAStream()); });
}

// Output and taps, and with `lrn` also LRN of the output.
std::tuple<at::Tensor, at::Tensor, at::Tensor> forward(const char* op, const at::Tensor& input,
                                                       const PoolWindow& window, bool relu,
                                                       const LrnParams* lrn) {
  const auto layout = pool_layout(input);
  const PoolSizes s =
      pool_sizes(op, input.sizes(), window, layout == at::MemoryFormat::ChannelsLast);
  check_fits(op, s);
  const c10::cuda::CUDAGuard guard(input.device());
  const at::Tensor x = input.contiguous(layout);
  at::Tensor pooled = empty_output(x, s, s.out_height, s.out_width, x.scalar_type());
  at::Tensor tap = empty_output(x, s, s.out_height, s.out_width, at::kByte);
  at::Tensor y = lrn ? at::empty_like(pooled) : at::Tensor();
  run_for_cuda_type(x, [&](auto zero, cudaStream_t stream) {
    using T = decltype(zero);
    const T* from = x.const_data_ptr<T>();
    T* to = pooled.mutable_data_ptr<T>();
    auto* taps = tap.mutable_data_ptr<uint8_t>();
    if (lrn) {
      relu_pool_lrn_cuda(from, to, taps, y.mutable_data_ptr<T>(), s, relu, *lrn, stream);
    } else {
      max_pool_cuda(from, to, taps, s, relu, stream);
    }
  });
  return {y, pooled, tap};
}

// Gradient of the input, from that of the pooled values or, with `lrn`, of LRN's output.
at::Tensor backward(const char* op, const at::Tensor& grad, const at::Tensor* pooled,
                    const at::Tensor& tap, int64_t height, int64_t width, PoolWindow window,
                    const LrnParams* lrn) {
  check_rank(op, "grad", grad, 4);
  check_same_shape(op, "grad", grad, "tap", tap);
  TORCH_CHECK_TYPE(tap.scalar_type() == at::kByte && tap.device() == grad.device(), op, ": tap is ",
                   describe(tap), "; expected uint8 on ", grad.device());
  const int64_t out_size[] = {grad.size(2), grad.size(3)};
  const int64_t input[] = {grad.size(0), grad.size(1), height, width};
  window.out_size = out_size;
  const auto layout = pool_layout(tap);
  const PoolSizes s = pool_sizes(op, input, window, layout == at::MemoryFormat::ChannelsLast);
  check_fits(op, s);
  const c10::cuda::CUDAGuard guard(grad.device());
  const at::Tensor dy = grad.contiguous(layout), taps = tap.contiguous(layout);
  const at::Tensor values = pooled ? pooled->contiguous(layout) : at::Tensor();
  at::Tensor dx = empty_output(dy, s, height, width, dy.scalar_type());
  const at::Tensor workspace =
      lrn ? at::empty({relu_pool_lrn_workspace(s, *lrn)}, dy.options()) : at::Tensor();
  run_for_cuda_type(dy, [&](auto zero, cudaStream_t stream) {
    using T = decltype(zero);
    const T* from = dy.const_data_ptr<T>();
    const auto* chosen = taps.const_data_ptr<uint8_t>();
    T* to = dx.mutable_data_ptr<T>();
    if (lrn) {
      relu_pool_lrn_backward_cuda(from, values.const_data_ptr<T>(), chosen, to,
                                  workspace.mutable_data_ptr<T>(), s, *lrn, stream);
    } else {
      max_pool_backward_cuda(from, chosen, to, s, stream);
    }
  });
  return dx;
}

std::tuple<at::Tensor, at::Tensor> max_pool_on_cuda(const at::Tensor& input, at::IntArrayRef kernel,
                                                    at::IntArrayRef stride, at::IntArrayRef padding,
                                                    at::IntArrayRef out_size, bool relu) {
  auto [y, pooled, tap] =
      forward("max_pool", input, {kernel, stride, padding, out_size}, relu, nullptr);
  return {pooled, tap};
}

at::Tensor max_pool_backward_on_cuda(const at::Tensor& grad, const at::Tensor& tap, int64_t height,
                                     int64_t width, at::IntArrayRef kernel, at::IntArrayRef stride,
                                     at::IntArrayRef padding) {
  return backward("max_pool_backward", grad, nullptr, tap, height, width,
                  {kernel, stride, padding, {}}, nullptr);
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> relu_pool_lrn_on_cuda(
    const at::Tensor& input, at::IntArrayRef kernel, at::IntArrayRef stride,
    at::IntArrayRef padding, at::IntArrayRef out_size, bool relu, int64_t local_size, double alpha,
    double beta, double k) {
  const LrnParams lrn = lrn_params("relu_pool_lrn", input, local_size, alpha, beta, k, false);
  return forward("relu_pool_lrn", input, {kernel, stride, padding, out_size}, relu, &lrn);
}

at::Tensor relu_pool_lrn_backward_on_cuda(const at::Tensor& grad, const at::Tensor& pooled,
                                          const at::Tensor& tap, int64_t height, int64_t width,
                                          at::IntArrayRef kernel, at::IntArrayRef stride,
                                          at::IntArrayRef padding, int64_t local_size, double alpha,
                                          double beta, double k) {
  const char* op = "relu_pool_lrn_backward";
  const LrnParams lrn = lrn_params(op, pooled, local_size, alpha, beta, k, false);
  check_same_shape(op, "grad", grad, "pooled", pooled);
  check_same_type(op, "grad", grad, "pooled", pooled);
  return backward(op, grad, &pooled, tap, height, width, {kernel, stride, padding, {}}, &lrn);
}

}  // namespace

TORCH_LIBRARY_IMPL(caffe_compat, CUDA, m) {
  m.impl("max_pool", max_pool_on_cuda);
  m.impl("max_pool_backward", max_pool_backward_on_cuda);
  m.impl("relu_pool_lrn", relu_pool_lrn_on_cuda);
  m.impl("relu_pool_lrn_backward", relu_pool_lrn_backward_on_cuda);
}

}  // namespace caffe_compat
