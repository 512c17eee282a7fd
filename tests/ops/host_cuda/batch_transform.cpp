// The CUDA kernel of batch_transform behind a C interface, for run_cases.py.
#include "batch_transform/batch_transform_kernels.cuh"
#include "host_cuda/device_array.h"

using namespace caffe_compat;

// mean: null, `channels` values, or an image of them.
extern "C" void batch_transform_float32(const uint8_t* images, const int32_t* windows,
                                        const float* mean, bool mean_is_image, float* out,
                                        int64_t n, int64_t channels, int64_t rows, int64_t columns,
                                        int64_t height, int64_t width, double scale,
                                        unsigned seed) {
  host_cuda::Machine::get().random.seed(seed);
  const BatchTransformSizes sizes{.images = n,
                                  .channels = int(channels),
                                  .rows = int(rows),
                                  .columns = int(columns),
                                  .height = int(height),
                                  .width = int(width)};
  TransformParams params;
  params.scale = static_cast<float>(scale);
  if (mean != nullptr) {
    params.mean_kind = mean_is_image ? MeanKind::kImage : MeanKind::kPerChannel;
  }
  const DeviceArray<float> device_mean(mean, mean == nullptr ? 0
                                             : mean_is_image ? sizes.image_values()
                                                             : channels);
  params.mean = device_mean.get();
  const DeviceArray<uint8_t> device_images(images, n * sizes.image_values());
  const DeviceArray<int32_t> device_windows(windows, 3 * n);
  const DeviceArray<float> device_out(n * sizes.window_values());
  batch_transform_cuda(device_images.get(), device_windows.get(), params, sizes, device_out.get(),
                       nullptr, 2);  // fewer rows of blocks than images
  device_out.copy_to(out);
}
