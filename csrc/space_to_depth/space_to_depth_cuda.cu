// torch.ops.caffe_compat.space_to_depth on CUDA.

#include <ATen/Dispatch.h>
#include <ATen/core/Tensor.h>
#include <ATen/cuda/CUDAContext.h>
#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAGuard.h>
#include <torch/library.h>

#include "space_to_depth/space_to_depth_arguments.h"
#include "space_to_depth/space_to_depth_kernels.cuh"

namespace caffe_compat {
namespace {

template <typename Run>
void run_for_type(at::ScalarType type, const Run& run) {
  AT_DISPATCH_SWITCH(type, "space_to_depth",
                     AT_DISPATCH_CASE(at::kFloat, [&] { run(scalar_t{}); })
                         AT_DISPATCH_CASE(at::kHalf, [&] { run(scalar_t{}); })
                             AT_DISPATCH_CASE(at::kBFloat16, [&] { run(scalar_t{}); }));
}

at::Tensor space_to_depth(const at::Tensor& input, int64_t block, at::IntArrayRef padding,
                          at::IntArrayRef out_size, at::ScalarType dtype) {
  const c10::cuda::CUDAGuard guard(input.device());
  const SpaceToDepthSizes sizes = space_to_depth_sizes(input, block, padding, out_size);
  at::Tensor out =
      at::empty({sizes.batch, sizes.out_channels, sizes.out_height, sizes.out_width},
                input.options().dtype(dtype).memory_format(at::MemoryFormat::ChannelsLast));
  const cudaStream_t stream = at::cuda::getCurrentCUDAStream();
  run_for_type(input.scalar_type(), [&](auto from) {
    using In = decltype(from);
    run_for_type(dtype, [&](auto to) {
      using Out = decltype(to);
      space_to_depth_cuda_launch(input.const_data_ptr<In>(), out.mutable_data_ptr<Out>(), sizes,
                                 stream);
    });
  });
  return out;
}

}  // namespace

TORCH_LIBRARY_IMPL(caffe_compat, CUDA, m) { m.impl("space_to_depth", space_to_depth); }

}  // namespace caffe_compat
