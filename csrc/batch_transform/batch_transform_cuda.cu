// torch.ops.caffe_compat.batch_transform on CUDA: crop, mirror, mean and scale of a uint8 batch in
// one kernel.

#include <ATen/cuda/CUDAContext.h>
#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <torch/library.h>

#include "batch_transform/batch_transform.h"

namespace caffe_compat {
namespace {

constexpr int kThreads = 256;

// One thread per output value; neighbours in a row read neighbours.  Windows that leave the image
// are moved to its border instead of read outside: a check on the host would wait for the device.
template <MeanKind kMean>
__global__ void batch_transform_kernel(const uint8_t* __restrict__ images,
                                       const int32_t* __restrict__ windows,
                                       const float* __restrict__ mean, float scale, int64_t count,
                                       int channels, int rows, int columns, int height, int width,
                                       float* __restrict__ out) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count;
       i += step) {
    const int w = i % width;
    const int h = i / width % height;
    const int c = i / (static_cast<int64_t>(width) * height) % channels;
    const int64_t n = i / (static_cast<int64_t>(width) * height * channels);
    const int32_t* window = windows + 3 * n;
    const int top = min(max(window[0], 0), rows - height),
              left = min(max(window[1], 0), columns - width);
    const int column = left + (window[2] ? width - 1 - w : w);
    const int64_t place = (static_cast<int64_t>(c) * rows + top + h) * columns + column;
    float value = images[n * channels * rows * columns + place];
    if (kMean == MeanKind::kPerChannel) value -= mean[c];
    if (kMean == MeanKind::kImage) value -= mean[place];
    out[i] = value * scale;
  }
}

at::Tensor batch_transform_cuda(const at::Tensor& images, const at::Tensor& windows,
                                const std::optional<at::Tensor>& mean, double scale, int64_t height,
                                int64_t width) {
  const c10::cuda::CUDAGuard guard(images.device());
  TransformParams params = check_batch_transform(images, windows, mean, scale, height, width);
  const at::Tensor pixels = images.contiguous(), places = windows.contiguous();
  const at::Tensor mean_values = mean.has_value() ? mean->contiguous() : at::Tensor();
  if (mean.has_value()) params.mean = mean_values.const_data_ptr<float>();
  const int channels = images.size(1), rows = images.size(2), columns = images.size(3);
  at::Tensor out =
      at::empty({images.size(0), channels, height, width}, images.options().dtype(at::kFloat));
  const int64_t count = out.numel();
  if (count == 0) return out;

  const int64_t blocks = std::min<int64_t>((count + kThreads - 1) / kThreads, 1 << 20);
  auto launch = [&](auto kernel) {
    kernel<<<blocks, kThreads, 0, at::cuda::getCurrentCUDAStream()>>>(
        pixels.const_data_ptr<uint8_t>(), places.const_data_ptr<int32_t>(), params.mean,
        params.scale, count, channels, rows, columns, static_cast<int>(height),
        static_cast<int>(width), out.mutable_data_ptr<float>());
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  };
  switch (params.mean_kind) {
    case MeanKind::kNone:
      launch(batch_transform_kernel<MeanKind::kNone>);
      break;
    case MeanKind::kPerChannel:
      launch(batch_transform_kernel<MeanKind::kPerChannel>);
      break;
    case MeanKind::kImage:
      launch(batch_transform_kernel<MeanKind::kImage>);
      break;
  }
  return out;
}

}  // namespace

TORCH_LIBRARY_IMPL(caffe_compat, CUDA, m) { m.impl("batch_transform", batch_transform_cuda); }

}  // namespace caffe_compat
