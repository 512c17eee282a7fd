// torch.ops.caffe_compat.tf32_split on CUDA.

#include <ATen/core/Tensor.h>
#include <ATen/cuda/CUDAContext.h>
#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAGuard.h>
#include <torch/library.h>

#include "common/tensor_checks.h"
#include "tf32_split/tf32_split_kernels.cuh"

namespace caffe_compat {
namespace {

tf32_split_cuda::LowPieces low_pieces(c10::string_view order) {
  CAFFE_COMPAT_CHECK_VALUE(order.size() == tf32_split_cuda::kPieces,
                           "tf32_split: order has another length than 3");
  tf32_split_cuda::LowPieces low = 0;
  for (size_t i = 0; i < order.size(); ++i) low |= (order[i] == 'l' ? 1u : 0u) << i;
  return low;
}

at::Tensor tf32_split(const at::Tensor& input, c10::string_view order, int64_t axis,
                      int64_t groups) {
  check_rank("tf32_split", "input", input, 4);
  CAFFE_COMPAT_CHECK_VALUE(input.scalar_type() == at::kFloat, "tf32_split: input is not float32");
  CAFFE_COMPAT_CHECK_VALUE((axis == 0 || axis == 1) && groups > 0 && input.size(axis) % groups == 0,
                           "tf32_split: axis is not 0 or 1, or not divisible by groups");
  const auto low = low_pieces(order);
  const c10::cuda::CUDAGuard guard(input.device());
  const at::Tensor dense = input.contiguous(at::MemoryFormat::ChannelsLast);
  std::vector<int64_t> sizes = input.sizes().vec();
  sizes[axis] *= tf32_split_cuda::kPieces;
  at::Tensor out = at::empty(sizes, input.options().memory_format(at::MemoryFormat::ChannelsLast));
  if (input.numel() == 0) return out;
  // Images or outputs lie together whole, channels at each pixel.
  const int64_t rows = axis == 0 ? groups : input.numel() / input.size(1) * groups;
  tf32_split_cuda_launch(dense.const_data_ptr<float>(), out.mutable_data_ptr<float>(), rows,
                         input.numel() / rows, low, at::cuda::getCurrentCUDAStream());
  return out;
}

}  // namespace

TORCH_LIBRARY_IMPL(caffe_compat, CUDA, m) { m.impl("tf32_split", tf32_split); }

}  // namespace caffe_compat
