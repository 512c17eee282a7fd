// The CUDA kernel of batch_transform: crop, mirror, mean and scale of a uint8 batch.
//
//   out[n, c, h, w] = (images[n, c, top + h, left + w'] - mean) * scale,  w' = w or, mirrored,
//   width - 1 - w
//
// Bytes moved: one for each output read, four written, and the mean, which stays in the caches.
#pragma once

#include <algorithm>

#include "batch_transform/image_transform.h"
#include "common/cuda_utils.cuh"

namespace caffe_compat {

struct BatchTransformSizes {
  int64_t images;
  int channels, rows, columns;  // of the images, whose values fit 31 bits
  int height, width;            // of the windows

  __host__ __device__ int image_values() const { return channels * rows * columns; }
  __host__ __device__ int window_values() const { return channels * height * width; }
};

constexpr int kValuesPerThread = 4;

// A row of blocks (blockIdx.y) makes one image, and goes on with others where there are more images
// than rows.  A thread makes the four values between two 16-byte boundaries of `out`.  Where an
// image ends between two boundaries, a thread of that image and one of the next write their own of
// the four values:
//
//     out          |....|....|....|....|....     16-byte boundaries
//     images        aaaaaaaaaaaaa bbbbbbbbb
//
// So all offsets within an image are 32-bit, and only that of the image itself is 64-bit.
//
// Windows that leave the image are moved inside instead of being refused: a check on the host would
// wait for the device.
template <MeanKind kMean>
__global__ void __launch_bounds__(kThreads)
    batch_transform_kernel(const uint8_t* __restrict__ images, const int32_t* __restrict__ windows,
                           const float* __restrict__ mean, float scale, BatchTransformSizes sizes,
                           float* __restrict__ out) {
  const int values = sizes.window_values();
  for (int64_t n = blockIdx.y; n < sizes.images; n += gridDim.y) {
    const int64_t start = n * values;
    const int first = static_cast<int>(global_thread()) * kValuesPerThread -
                      static_cast<int>(start % kValuesPerThread);
    if (first >= values) continue;
    const int32_t* window = windows + 3 * n;
    const int top = std::min(std::max(window[0], 0), sizes.rows - sizes.height),
              left = std::min(std::max(window[1], 0), sizes.columns - sizes.width);
    const bool mirror = window[2] != 0;
    const uint8_t* image = images + n * sizes.image_values();

    const int begin = std::max(first, 0), end = std::min(first + kValuesPerThread, values);
    int w = begin % sizes.width, row = begin / sizes.width;
    int h = row % sizes.height, c = row / sizes.height;
    float results[kValuesPerThread] = {};
#pragma unroll
    for (int k = 0; k < kValuesPerThread; ++k) {
      if (first + k < begin || first + k >= end) continue;
      const int column = left + (mirror ? sizes.width - 1 - w : w);
      const int offset = (c * sizes.rows + top + h) * sizes.columns + column;
      float value = image[offset];
      if (kMean == MeanKind::kPerChannel) value -= mean[c];
      if (kMean == MeanKind::kImage) value -= mean[offset];
      results[k] = value * scale;
      if (++w == sizes.width) {
        w = 0;
        if (++h == sizes.height) h = 0, ++c;
      }
    }
    if (end - begin == kValuesPerThread) {
      store<kValuesPerThread>(results, out + start + first);
      continue;
    }
#pragma unroll
    for (int k = 0; k < kValuesPerThread; ++k) {
      if (first + k >= begin && first + k < end) out[start + first + k] = results[k];
    }
  }
}

// `out` starts at a 16-byte boundary; params.stream is not used.  most_rows: rows of blocks, at
// most.
template <typename Stream>
void batch_transform_cuda(const uint8_t* images, const int32_t* windows,
                          const TransformParams& params, const BatchTransformSizes& sizes,
                          float* out, Stream stream, int64_t most_rows = kMostGridYZ) {
  if (sizes.images == 0) return;
  const int64_t threads = ceil_div(sizes.window_values(), kValuesPerThread) + 1;
  const dim3 grid(static_cast<unsigned>(ceil_div(threads, kThreads)),
                  static_cast<unsigned>(std::min(sizes.images, most_rows)));
  auto launch = [&](auto kernel) {
    CAFFE_COMPAT_LAUNCH(kernel, grid, dim3(kThreads), stream, images, windows, params.mean,
                        params.scale, sizes, out);
  };
  switch (params.mean_kind) {
    case MeanKind::kNone:
      return launch(batch_transform_kernel<MeanKind::kNone>);
    case MeanKind::kPerChannel:
      return launch(batch_transform_kernel<MeanKind::kPerChannel>);
    case MeanKind::kImage:
      return launch(batch_transform_kernel<MeanKind::kImage>);
  }
}

}  // namespace caffe_compat
