// The CUDA side of torch.ops.caffe_compat.bias_relu_parts and its gradient.

#include <ATen/Dispatch.h>
#include <ATen/core/Tensor.h>
#include <ATen/cuda/CUDAContext.h>
#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAGuard.h>
#include <torch/library.h>

#include <tuple>

#include "parts/parts_arguments.h"
#include "parts/parts_kernels.cuh"
#include "parts/parts_types.h"

namespace caffe_compat {
namespace {

std::vector<at::Tensor> bias_relu_parts(at::TensorList input, const std::optional<at::Tensor>& bias,
                                        bool relu, int64_t groups) {
  const char* op = "bias_relu_parts";
  const PartsShape shape = check_parts(op, "input", input);
  const c10::cuda::CUDAGuard guard(input[0].device());
  const at::Tensor added = check_bias(op, bias, input[0], shape.channels);
  const std::vector<at::Tensor> dense = dense_parts(input),
                                output = empty_parts(op, shape, groups, input[0].options());
  run_for_parts_type(input[0], [&](auto zero) {
    using T = decltype(zero);
    bias_relu_parts_cuda<T>(read_parts<T>(dense), write_parts<T>(output), read_bias<T>(added),
                            shape.pixels(), shape.channels, relu, at::cuda::getCurrentCUDAStream());
  });
  return output;
}

std::tuple<std::vector<at::Tensor>, at::Tensor> bias_relu_parts_backward(at::TensorList grad,
                                                                         at::TensorList output,
                                                                         bool relu, int64_t groups,
                                                                         double scale) {
  const char* op = "bias_relu_parts_backward";
  const PartsShape shape = check_parts(op, "grad", grad);
  check_same_parts_shape(op, "grad", shape, "output", check_parts(op, "output", output));
  check_same_type(op, "grad", grad[0], "output", output[0]);
  const c10::cuda::CUDAGuard guard(grad[0].device());
  const std::vector<at::Tensor> grads = dense_parts(grad), outputs = dense_parts(output);
  const std::vector<at::Tensor> input_grad = empty_parts(op, shape, groups, grad[0].options());
  const at::TensorOptions sums = grad[0].options().dtype(at::kFloat);
  const at::Tensor bias_grad = at::empty({shape.channels}, sums);
  const at::Tensor rows = at::empty({bias_relu_parts_rows(), shape.channels}, sums);
  run_for_parts_type(grad[0], [&](auto zero) {
    using T = decltype(zero);
    bias_relu_parts_backward_cuda<T>(
        read_parts<T>(grads), read_parts<T>(outputs), write_parts<T>(input_grad),
        bias_grad.mutable_data_ptr<float>(), rows.mutable_data_ptr<float>(), shape.pixels(),
        shape.channels, relu, static_cast<float>(scale), at::cuda::getCurrentCUDAStream());
  });
  return {input_grad, bias_grad};
}

}  // namespace

TORCH_LIBRARY_IMPL(caffe_compat, CUDA, m) {
  m.impl("bias_relu_parts", bias_relu_parts);
  m.impl("bias_relu_parts_backward", bias_relu_parts_backward);
}

}  // namespace caffe_compat
