// torch.ops.caffe_compat.batch_transform: schema and the CPU side.  The fake kernel is in
// caffe_compat/ops/batch_transform.py.

#include "batch_transform/batch_transform.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

namespace caffe_compat {
namespace {

at::Tensor batch_transform_cpu(const at::Tensor& images, const at::Tensor& windows,
                               const std::optional<at::Tensor>& mean, double scale, int64_t height,
                               int64_t width) {
  TransformParams params = check_batch_transform(images, windows, mean, scale, height, width);
  const at::Tensor pixels = images.contiguous(), crops = windows.contiguous();
  const at::Tensor mean_values = mean.has_value() ? mean->contiguous() : at::Tensor();
  if (mean.has_value()) params.mean = mean_values.const_data_ptr<float>();
  const int64_t channels = images.size(1), rows = images.size(2), columns = images.size(3);
  const auto* corner = crops.const_data_ptr<int32_t>();  // top, left, mirror of each image
  for (int64_t n = 0; n < images.size(0); ++n) {
    const int64_t top = corner[3 * n], left = corner[3 * n + 1];
    CAFFE_COMPAT_CHECK_VALUE(
        top >= 0 && left >= 0 && top + height <= rows && left + width <= columns,
        "batch_transform: window ", n, " at (", top, ", ", left, ") of ", height, "x", width,
        " leaves the image ", rows, "x", columns);
  }
  at::Tensor out =
      at::empty({images.size(0), channels, height, width}, images.options().dtype(at::kFloat));
  const uint8_t* in = pixels.const_data_ptr<uint8_t>();
  float* result = out.mutable_data_ptr<float>();
  params.stream = static_cast<int64_t>(out.nbytes()) > kStreamThreshold;
  run_parallel(images.size(0), at::get_num_threads(), [&](int64_t n) {
    const ImageView image{.data = in + n * channels * rows * columns,
                          .channels = channels,
                          .height = rows,
                          .width = columns,
                          .channel_stride = rows * columns,
                          .row_stride = columns,
                          .column_stride = 1};
    const CropWindow crop{corner[3 * n], corner[3 * n + 1], corner[3 * n + 2] != 0};
    transform_image(image, crop, params, result + n * channels * height * width);
  });
  return out;
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(caffe_compat, m) {
  m.def(
      "batch_transform(Tensor images, Tensor windows, Tensor? mean, float scale, int height, int "
      "width) -> Tensor");
}

TORCH_LIBRARY_IMPL(caffe_compat, CPU, m) { m.impl("batch_transform", batch_transform_cpu); }

}  // namespace caffe_compat
