// torch.ops.caffe_compat.batch_transform on CUDA.

#include <ATen/cuda/CUDAContext.h>
#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAGuard.h>
#include <torch/library.h>

#include "batch_transform/batch_transform.h"
#include "batch_transform/batch_transform_kernels.cuh"

namespace caffe_compat {
namespace {

at::Tensor batch_transform(const at::Tensor& images, const at::Tensor& windows,
                           const std::optional<at::Tensor>& mean, double scale, int64_t height,
                           int64_t width) {
  const c10::cuda::CUDAGuard guard(images.device());
  TransformParams params = check_batch_transform(images, windows, mean, scale, height, width);
  constexpr int64_t kMostValues = (int64_t{1} << 31) - 8;  // offsets within an image are 32-bit
  const int64_t values = images.size(1) * images.size(2) * images.size(3);
  CAFFE_COMPAT_CHECK_VALUE(values <= kMostValues, "batch_transform: images is ", describe(images),
                           "; expected less than 2^31 values in an image");
  const at::Tensor pixels = images.contiguous(), crops = windows.contiguous();
  const at::Tensor mean_values = mean.has_value() ? mean->contiguous() : at::Tensor();
  if (mean.has_value()) params.mean = mean_values.const_data_ptr<float>();
  const BatchTransformSizes sizes{.images = images.size(0),
                                  .channels = static_cast<int>(images.size(1)),
                                  .rows = static_cast<int>(images.size(2)),
                                  .columns = static_cast<int>(images.size(3)),
                                  .height = static_cast<int>(height),
                                  .width = static_cast<int>(width)};
  at::Tensor out = at::empty({images.size(0), images.size(1), height, width},
                             images.options().dtype(at::kFloat));
  batch_transform_cuda(pixels.const_data_ptr<uint8_t>(), crops.const_data_ptr<int32_t>(), params,
                       sizes, out.mutable_data_ptr<float>(),
                       at::cuda::getCurrentCUDAStream().stream());
  return out;
}

}  // namespace

TORCH_LIBRARY_IMPL(caffe_compat, CUDA, m) { m.impl("batch_transform", batch_transform); }

}  // namespace caffe_compat
