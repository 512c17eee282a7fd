// torch.ops.caffe_compat.batch_transform: checks that the CPU and the CUDA side share.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

#include "batch_transform/image_transform.h"
#include "common/tensor_checks.h"

namespace caffe_compat {

// Checks the arguments; returns what all images share (params.mean points into `mean`, which must
// be contiguous).
inline TransformParams check_batch_transform(const at::Tensor& images, const at::Tensor& windows,
                                             const std::optional<at::Tensor>& mean, double scale,
                                             int64_t height, int64_t width) {
  const char* op = "batch_transform";
  check_rank(op, "images", images, 4);
  CAFFE_COMPAT_CHECK_TYPE(images.scalar_type() == at::kByte, op, ": images is ", describe(images),
                          "; expected uint8");
  CAFFE_COMPAT_CHECK_VALUE(
      height >= 1 && width >= 1 && height <= images.size(2) && width <= images.size(3), op,
      ": a window of ", height, "x", width, " does not fit images ", describe(images));
  CAFFE_COMPAT_CHECK_VALUE(windows.scalar_type() == at::kInt && windows.dim() == 2 &&
                               windows.size(0) == images.size(0) && windows.size(1) == 3,
                           op, ": windows is ", describe(windows), "; expected int32 [",
                           images.size(0), ", 3] of top, left, mirror");
  CAFFE_COMPAT_CHECK_VALUE(windows.device() == images.device(), op, ": windows is on ",
                           windows.device(), " but images on ", images.device());
  TransformParams params;
  params.scale = static_cast<float>(scale);
  params.height = height;
  params.width = width;
  if (!mean.has_value()) return params;
  CAFFE_COMPAT_CHECK_VALUE(mean->scalar_type() == at::kFloat && mean->device() == images.device(),
                           op, ": mean is ", describe(*mean), "; expected float32 on ",
                           images.device());
  if (mean->dim() == 1 && mean->size(0) == images.size(1)) {
    params.mean_kind = MeanKind::kPerChannel;
  } else {
    CAFFE_COMPAT_CHECK_VALUE(
        mean->sizes() == images.sizes().slice(1), op, ": mean is ", describe(*mean),
        "; expected one value per channel or the size of images ", describe(images));
    params.mean_kind = MeanKind::kImage;
  }
  return params;
}

}  // namespace caffe_compat
