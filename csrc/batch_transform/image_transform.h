// Caffe's image transform: out = (value - mean) * scale over a window of an image, mirrored or not.
#pragma once

#include <cstdint>
#include <functional>

namespace caffe_compat {

// An image of uint8 or float32 values in any memory order; strides count bytes.
struct ImageView {
  const uint8_t* data = nullptr;
  int64_t channels = 0, height = 0, width = 0;
  int64_t channel_stride = 0, row_stride = 0, column_stride = 0;
  bool is_float = false;
};

// Which part of an image becomes the output, TransformParams::height x width of it.
struct CropWindow {
  int64_t top, left;
  bool mirror;  // left to right
};

enum class MeanKind { kNone, kPerChannel, kImage };

// What all images of a batch share.  kImage: mean is [channels][image height][image width].
struct TransformParams {
  MeanKind mean_kind = MeanKind::kNone;
  const float* mean = nullptr;
  float scale = 1;
  int64_t height = 0, width = 0;  // of the window and of the output
  // Write with non-temporal stores, where the image allows it.  They are seen by other threads only
  // after a fence, which run_parallel has.
  bool stream = false;
};

// An output of more bytes would not stay in a cache until it is used: it is streamed.
constexpr int64_t kStreamThreshold = 8 << 20;

// Writes [channels][height][width].  The window must lie inside the image.
void transform_image(const ImageView& image, const CropWindow& crop, const TransformParams& params,
                     float* out);

// Writes the whole image as [channels][height][width] uint8; the image must not be float.
void copy_image(const ImageView& image, uint8_t* out);

// total[i] += image value i, for i in [begin, end) of [channels][height][width].
void add_image(const ImageView& image, int64_t begin, int64_t end, float* total);

// Calls run(i) for i in [0, count) from up to `threads` threads, this one included.
void run_parallel(int64_t count, int64_t threads, const std::function<void(int64_t)>& run);

}  // namespace caffe_compat
