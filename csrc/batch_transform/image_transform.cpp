// The CPU kernels of image_transform.h.

#include "batch_transform/image_transform.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <system_error>
#include <thread>
#include <vector>

#include "batch_transform/stream_image.h"
#include "common/multiversion.h"
#include "common/simd_level.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace caffe_compat {
namespace {

// Streaming stores are seen by other threads only after a fence.
void fence_stores() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

template <class Value>
CAFFE_COMPAT_INLINE float load(const uint8_t* address) {
  Value value;  // a float in a Datum lies at any address
  std::memcpy(&value, address, sizeof value);
  return static_cast<float>(value);
}

// out[i] = in[count - 1 - i].  By hand: compilers turn the obvious loop into single steps.
CAFFE_COMPAT_INLINE void reverse_copy(const float* in, int64_t count, float* out) {
  int64_t i = 0;
#if defined(__SSE2__)
  for (; i + 4 <= count; i += 4) {
    const __m128 four = _mm_loadu_ps(in + count - 4 - i);
    _mm_storeu_ps(out + i, _mm_shuffle_ps(four, four, _MM_SHUFFLE(0, 1, 2, 3)));
  }
#endif
  for (; i < count; ++i) out[i] = in[count - 1 - i];
}

// One row: Caffe's three operations in Caffe's order, as a loop that compilers vectorise.
template <class Value, MeanKind kMean>
CAFFE_COMPAT_INLINE void transform_row(const uint8_t* in, int64_t stride, const float* mean,
                                       float scale, int64_t width, float* __restrict out) {
  for (int64_t i = 0; i < width; ++i) {
    float value = load<Value>(in + i * stride);
    if (kMean == MeanKind::kPerChannel) value -= *mean;
    if (kMean == MeanKind::kImage) value -= mean[i];
    out[i] = value * scale;
  }
}

// A mirrored row goes through `line`, so that both the transform and the reversal vectorise.
template <class Value, MeanKind kMean, bool kMirror, int kStride>
CAFFE_COMPAT_INLINE void transform_rows(const ImageView& image, const CropWindow& crop,
                                        const TransformParams& params, float* out) {
  const int64_t stride = kStride ? kStride : image.column_stride, width = params.width;
  std::vector<float> line(kMirror ? width : 0);
  for (int64_t c = 0; c < image.channels; ++c) {
    for (int64_t h = 0; h < params.height; ++h, out += width) {
      const int64_t row = crop.top + h;
      const uint8_t* in =
          image.data + c * image.channel_stride + row * image.row_stride + crop.left * stride;
      const float* mean = params.mean;
      if (kMean == MeanKind::kPerChannel) mean += c;
      if (kMean == MeanKind::kImage) mean += (c * image.height + row) * image.width + crop.left;
      transform_row<Value, kMean>(in, stride, mean, params.scale, width,
                                  kMirror ? line.data() : out);
      if (kMirror) reverse_copy(line.data(), width, out);
    }
  }
}

template <class Value, MeanKind kMean, int kStride>
CAFFE_COMPAT_INLINE void choose_mirror(const ImageView& image, const CropWindow& crop,
                                       const TransformParams& params, float* out) {
  if (crop.mirror) {
    transform_rows<Value, kMean, true, kStride>(image, crop, params, out);
  } else {
    transform_rows<Value, kMean, false, kStride>(image, crop, params, out);
  }
}

template <class Value, int kStride>
CAFFE_COMPAT_INLINE void choose_mean(const ImageView& image, const CropWindow& crop,
                                     const TransformParams& params, float* out) {
  switch (params.mean_kind) {
    case MeanKind::kNone:
      return choose_mirror<Value, MeanKind::kNone, kStride>(image, crop, params, out);
    case MeanKind::kPerChannel:
      return choose_mirror<Value, MeanKind::kPerChannel, kStride>(image, crop, params, out);
    case MeanKind::kImage:
      return choose_mirror<Value, MeanKind::kImage, kStride>(image, crop, params, out);
  }
}

// Planar bytes (a raw Datum) and interleaved colour (a decoded file): their strides are constants,
// so that their loops vectorise.
CAFFE_COMPAT_MULTIVERSION
void transform_planar_bytes(const ImageView& image, const CropWindow& crop,
                            const TransformParams& params, float* out) {
  choose_mean<uint8_t, 1>(image, crop, params, out);
}

CAFFE_COMPAT_MULTIVERSION
void transform_bgr_bytes(const ImageView& image, const CropWindow& crop,
                         const TransformParams& params, float* out) {
  choose_mean<uint8_t, 3>(image, crop, params, out);
}

// One row of interleaved colour to a row of each plane.
CAFFE_COMPAT_MULTIVERSION
void split_bgr(const uint8_t* in, int64_t width, uint8_t* __restrict blue,
               uint8_t* __restrict green, uint8_t* __restrict red) {
  for (int64_t i = 0; i < width; ++i) {
    blue[i] = in[3 * i];
    green[i] = in[3 * i + 1];
    red[i] = in[3 * i + 2];
  }
}

CAFFE_COMPAT_MULTIVERSION
void add_planar_bytes(const uint8_t* in, int64_t count, float* __restrict total) {
  for (int64_t i = 0; i < count; ++i) total[i] += static_cast<float>(in[i]);
}

StreamImage find_stream_image() {
#if CAFFE_COMPAT_HAS_SIMD
  if (simd_level() == SimdLevel::kAvx512) return stream_image_avx512;
  if (simd_level() == SimdLevel::kAvx2) return stream_image_avx2;
#endif
  return nullptr;
}

bool is_planar_bytes(const ImageView& image) {
  return !image.is_float && image.column_stride == 1 && image.row_stride == image.width &&
         image.channel_stride == image.height * image.width;
}

}  // namespace

void transform_image(const ImageView& image, const CropWindow& crop, const TransformParams& params,
                     float* out) {
  const StreamImage stream_image = params.stream ? find_stream_image() : nullptr;
  if (image.is_float) {
    choose_mean<float, 0>(image, crop, params, out);
  } else if (image.column_stride == 1 && params.width >= kStreamWidth && stream_image != nullptr) {
    stream_image(image, crop, params, out);
  } else if (image.column_stride == 1) {
    transform_planar_bytes(image, crop, params, out);
  } else if (image.column_stride == 3) {
    transform_bgr_bytes(image, crop, params, out);
  } else {
    choose_mean<uint8_t, 0>(image, crop, params, out);
  }
}

void copy_image(const ImageView& image, uint8_t* out) {
  if (is_planar_bytes(image)) {
    std::memcpy(out, image.data, image.channels * image.height * image.width);
    return;
  }
  if (image.channels == 3 && image.channel_stride == 1 && image.column_stride == 3) {
    const int64_t plane = image.height * image.width;
    for (int64_t h = 0; h < image.height; ++h, out += image.width) {
      split_bgr(image.data + h * image.row_stride, image.width, out, out + plane, out + 2 * plane);
    }
    return;
  }
  for (int64_t c = 0; c < image.channels; ++c) {
    for (int64_t h = 0; h < image.height; ++h) {
      const uint8_t* in = image.data + c * image.channel_stride + h * image.row_stride;
      for (int64_t w = 0; w < image.width; ++w) *out++ = in[w * image.column_stride];
    }
  }
}

void add_image(const ImageView& image, int64_t begin, int64_t end, float* total) {
  if (is_planar_bytes(image)) {
    add_planar_bytes(image.data + begin, end - begin, total + begin);
    return;
  }
  for (int64_t i = begin; i < end; ++i) {
    const int64_t c = i / (image.height * image.width), h = i / image.width % image.height,
                  w = i % image.width;
    const uint8_t* in =
        image.data + c * image.channel_stride + h * image.row_stride + w * image.column_stride;
    total[i] += image.is_float ? load<float>(in) : load<uint8_t>(in);
  }
}

void run_parallel(int64_t count, int64_t threads, const std::function<void(int64_t)>& run) {
  std::atomic<int64_t> next{0};
  auto work = [&] {
    for (int64_t i = next++; i < count; i = next++) run(i);
    fence_stores();
  };
  std::vector<std::thread> helpers;
  try {
    for (int64_t t = 1; t < std::min(threads, count); ++t) helpers.emplace_back(work);
  } catch (const std::system_error&) {
    // The system gives no more threads, as in a container that limits them: those there are do it.
  }
  work();
  for (std::thread& helper : helpers) helper.join();
}

}  // namespace caffe_compat
