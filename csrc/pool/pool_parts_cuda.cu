// The CUDA side of torch.ops.caffe_compat.pool_parts and its gradient.

#include <ATen/core/Tensor.h>
#include <ATen/cuda/CUDAContext.h>
#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAGuard.h>
#include <torch/library.h>

#include <algorithm>
#include <string>
#include <tuple>

#include "lrn/lrn_arguments.h"
#include "parts/parts_arguments.h"
#include "parts/parts_types.h"
#include "pool/pool_arguments.h"
#include "pool/pool_parts_kernels.cuh"

namespace caffe_compat {
namespace {

// Without LRN its size is 0.
LrnParams parts_lrn(const char* op, const at::Tensor& like, int64_t local_size, double alpha,
                    double beta, double k) {
  if (local_size == 0) return {.size = 0, .alpha = 0, .beta = 0.75, .k = 1};
  const LrnParams lrn = lrn_params(op, like, local_size, alpha, beta, k, false);
  CAFFE_COMPAT_CHECK_VALUE(pool_cuda::is_fused(lrn), op, ": local_size is ", local_size, ", beta ",
                           std::to_string(beta),
                           "; expected local_size 5 (or 0: no LRN) and beta 0.5, 0.75 or 1");
  return lrn;
}

PoolSizes parts_sizes(const char* op, const PartsShape& shape, const PoolArguments& window) {
  const int64_t sizes[] = {shape.batch, shape.channels, shape.height, shape.width};
  const PoolSizes s = pool_sizes(op, sizes, window, true);
  const int64_t largest = std::max({s.height, s.width, s.stride_h, s.stride_w});
  CAFFE_COMPAT_CHECK_VALUE(largest < int64_t{1} << 30, op, ": an axis or a stride of ", largest,
                           "; expected less than 2^30");
  return s;
}

std::tuple<std::vector<at::Tensor>, at::Tensor, at::Tensor> pool_parts(
    at::TensorList input, const std::optional<at::Tensor>& bias, at::IntArrayRef kernel,
    at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef out_size, bool relu,
    int64_t local_size, double alpha, double beta, double k, int64_t groups) {
  const char* op = "pool_parts";
  const PartsShape shape = check_parts(op, "input", input);
  const at::TensorOptions options = input[0].options();
  const c10::cuda::CUDAGuard guard(input[0].device());
  const LrnParams lrn = parts_lrn(op, input[0], local_size, alpha, beta, k);
  const PoolSizes sizes = parts_sizes(op, shape, {kernel, stride, padding, out_size});
  const at::Tensor added = check_bias(op, bias, input[0], shape.channels);
  const std::vector<at::Tensor> dense = dense_parts(input);
  const PartsShape pooled_shape{shape.batch, shape.channels, sizes.out_height, sizes.out_width};
  const std::vector<at::Tensor> output = empty_parts(op, pooled_shape, groups, options);
  const at::Tensor tap = empty_parts(op, pooled_shape, 1, options.dtype(at::kByte))[0];
  const at::Tensor pooled =
      lrn.size > 0 ? empty_parts(op, pooled_shape, 1, options)[0] : at::empty({0}, options);
  run_for_parts_type(input[0], [&](auto zero) {
    using T = decltype(zero);
    pool_parts_cuda<T>(read_parts<T>(dense), read_bias<T>(added), write_parts<T>(output),
                       pooled.mutable_data_ptr<T>(), tap.mutable_data_ptr<uint8_t>(), sizes, relu,
                       lrn, at::cuda::getCurrentCUDAStream());
  });
  return {output, pooled, tap};
}

std::tuple<std::vector<at::Tensor>, at::Tensor> pool_parts_backward(
    at::TensorList grad, const at::Tensor& pooled, const at::Tensor& tap, int64_t height,
    int64_t width, at::IntArrayRef kernel, at::IntArrayRef stride, at::IntArrayRef padding,
    int64_t local_size, double alpha, double beta, double k, int64_t groups) {
  const char* op = "pool_parts_backward";
  const PartsShape shape = check_parts(op, "grad", grad);
  CAFFE_COMPAT_CHECK_VALUE(tap.scalar_type() == at::kByte && tap.device() == grad[0].device(), op,
                           ": tap is ", describe(tap), "; expected uint8 on ", grad[0].device());
  check_same_parts_shape(op, "grad", shape, "tap", check_parts(op, "tap", tap));
  const c10::cuda::CUDAGuard guard(grad[0].device());
  const LrnParams lrn = parts_lrn(op, grad[0], local_size, alpha, beta, k);
  if (lrn.size > 0) {
    check_same_type(op, "pooled", pooled, "grad", grad[0]);
    check_same_shape(op, "pooled", pooled, "tap", tap);
  }
  const PartsShape input_shape{shape.batch, shape.channels, height, width};
  const PoolSizes sizes =
      parts_sizes(op, input_shape, {kernel, stride, padding, tap.sizes().slice(2)});
  const std::vector<at::Tensor> grads = dense_parts(grad);
  const at::Tensor taps = tap.contiguous(at::MemoryFormat::ChannelsLast);
  const at::Tensor values =
      lrn.size > 0 ? pooled.contiguous(at::MemoryFormat::ChannelsLast) : at::Tensor();
  const std::vector<at::Tensor> input_grad =
      empty_parts(op, input_shape, groups, grad[0].options());
  const at::TensorOptions sums = grad[0].options().dtype(at::kFloat);
  const at::Tensor bias_grad = at::empty({shape.channels}, sums);
  run_for_parts_type(grad[0], [&](auto zero) {
    using T = decltype(zero);
    const at::Tensor rows = at::empty({pool_parts_rows<T>(sizes), shape.channels}, sums);
    pool_parts_backward_cuda<T>(read_parts<T>(grads),
                                lrn.size > 0 ? values.const_data_ptr<T>() : nullptr,
                                taps.const_data_ptr<uint8_t>(), write_parts<T>(input_grad),
                                bias_grad.mutable_data_ptr<float>(), rows.mutable_data_ptr<float>(),
                                sizes, lrn, at::cuda::getCurrentCUDAStream());
  });
  return {input_grad, bias_grad};
}

}  // namespace

TORCH_LIBRARY_IMPL(caffe_compat, CUDA, m) {
  m.impl("pool_parts", pool_parts);
  m.impl("pool_parts_backward", pool_parts_backward);
}

}  // namespace caffe_compat
