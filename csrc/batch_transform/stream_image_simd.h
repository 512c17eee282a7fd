// The kernel of stream_image.h for one vector set.
#pragma once

#include "common/simd.h"

namespace caffe_compat::CAFFE_COMPAT_SIMD {

constexpr int64_t kLineBytes = 64;
// Processors prefetch within a page of 4 KiB only, which an image of 256 columns leaves every 16
// rows: so many rows ahead are prefetched by hand.
constexpr int64_t kRowsAhead = 8;

// A cache line of floats.
struct CacheLine {
#if CAFFE_COMPAT_SIMD_LANES == 16
  Floats all;

  static CacheLine fill(float value) { return {Floats::all(value)}; }
  static CacheLine load(const float* from) { return {Floats::load(from)}; }
  static CacheLine of_bytes(const uint8_t* from) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
    return {{_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes))}};
  }
  // The last `count` values of `first`, then the first of `second`.
  static CacheLine join(CacheLine first, CacheLine second, int64_t count) {
    const __m512i indices =
        _mm512_add_epi32(_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
                         _mm512_set1_epi32(static_cast<int>(16 - count)));
    return {{_mm512_permutex2var_ps(first.all.value, indices, second.all.value)}};
  }
  CacheLine reversed() const {
    const __m512i indices = _mm512_setr_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    return {{_mm512_permutexvar_ps(indices, all.value)}};
  }
  void store(float* to) const { all.store(to); }
  void stream(float* to) const { all.stream(to); }
  CacheLine operator-(CacheLine b) const { return {all - b.all}; }
  CacheLine operator*(CacheLine b) const { return {all * b.all}; }
#else
  Floats low, high;

  static CacheLine fill(float value) { return {Floats::all(value), Floats::all(value)}; }
  static CacheLine load(const float* from) { return {Floats::load(from), Floats::load(from + 8)}; }
  static CacheLine of_bytes(const uint8_t* from) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
    return {{_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes))},
            {_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_srli_si128(bytes, 8)))}};
  }
  // The last `count` values of `first`, then the first of `second`.
  static CacheLine join(CacheLine first, CacheLine second, int64_t count) {
    float both[32];
    first.store(both);
    second.store(both + 16);
    return load(both + 16 - count);
  }
  CacheLine reversed() const {
    const __m256i indices = _mm256_setr_epi32(7, 6, 5, 4, 3, 2, 1, 0);
    return {{_mm256_permutevar8x32_ps(high.value, indices)},
            {_mm256_permutevar8x32_ps(low.value, indices)}};
  }
  void store(float* to) const {
    low.store(to);
    high.store(to + 8);
  }
  void stream(float* to) const {
    low.stream(to);
    high.stream(to + 8);
  }
  CacheLine operator-(CacheLine b) const { return {low - b.low, high - b.high}; }
  CacheLine operator*(CacheLine b) const { return {low * b.low, high * b.high}; }
#endif
};

// A row of the output: row(i) has its values i to i + 15.
template <MeanKind kMean, bool kMirror>
struct OutputRow {
  const uint8_t* in;
  const float* mean;
  int64_t width;
  CacheLine channel_mean, scale;

  CacheLine operator()(int64_t i) const {
    const int64_t first = kMirror ? width - kStreamWidth - i : i;
    CacheLine line = CacheLine::of_bytes(in + first);
    if (kMean == MeanKind::kPerChannel) line = line - channel_mean;
    if (kMean == MeanKind::kImage) line = line - CacheLine::load(mean + first);
    line = line * scale;
    return kMirror ? line.reversed() : line;
  }
};

// Rows of the output follow each other without a gap, so that most cache lines where a row ends
// also hold the beginning of the next.  They are written whole: the last values of a row wait in a
// register until the next one is there.
//
//     rows of 23 values in cache lines   |aaaaaaaaaaaaaaaa|aaaaaaabbbbbbbbb|bbbbbbbbbbbbbbcc|
//     held until row b is there                            ^^^^^^^
template <MeanKind kMean, bool kMirror>
void stream_rows(const ImageView& image, const CropWindow& crop, const TransformParams& params,
                 float* out) {
  const int64_t width = params.width;
  const CacheLine scale = CacheLine::fill(params.scale);
  CacheLine last = CacheLine::fill(0.0f);
  auto held = static_cast<int64_t>(reinterpret_cast<uintptr_t>(out) % kLineBytes / sizeof(float));
  float* line = out - held;  // the next cache line to write; its first values are held in `last`
  for (int64_t c = 0; c < image.channels; ++c) {
    const CacheLine channel_mean =
        CacheLine::fill(kMean == MeanKind::kPerChannel ? params.mean[c] : 0.0f);
    for (int64_t h = 0; h < params.height; ++h) {
      const int64_t row = crop.top + h;
      const uint8_t* in =
          image.data + c * image.channel_stride + row * image.row_stride + crop.left;
      const float* mean = params.mean;
      if (kMean == MeanKind::kImage) mean += (c * image.height + row) * image.width + crop.left;
      for (int64_t i = 0; i < width; i += kLineBytes)
        __builtin_prefetch(in + kRowsAhead * image.row_stride + i);

      const OutputRow<kMean, kMirror> row_values{in, mean, width, channel_mean, scale};
      int64_t i = 0;
      if (held != 0) {
        if (c == 0 && h == 0) {
          row_values(0).store(out);  // the image before ends in this line
        } else {
          CacheLine::join(last, row_values(0), held).stream(line);
        }
        line += kStreamWidth;
        i = kStreamWidth - held;
      }
      for (; i + kStreamWidth <= width; i += kStreamWidth, line += kStreamWidth) {
        row_values(i).stream(line);
      }
      held = width - i;
      last = row_values(width - kStreamWidth);
    }
  }
  float tail[kStreamWidth];
  last.store(tail);
  for (int64_t i = 0; i < held; ++i) line[i] = tail[kStreamWidth - held + i];
}

template <MeanKind kMean>
void choose_mirror(const ImageView& image, const CropWindow& crop, const TransformParams& params,
                   float* out) {
  if (crop.mirror) {
    stream_rows<kMean, true>(image, crop, params, out);
  } else {
    stream_rows<kMean, false>(image, crop, params, out);
  }
}

inline void stream_image(const ImageView& image, const CropWindow& crop,
                         const TransformParams& params, float* out) {
  switch (params.mean_kind) {
    case MeanKind::kNone:
      return choose_mirror<MeanKind::kNone>(image, crop, params, out);
    case MeanKind::kPerChannel:
      return choose_mirror<MeanKind::kPerChannel>(image, crop, params, out);
    case MeanKind::kImage:
      return choose_mirror<MeanKind::kImage>(image, crop, params, out);
  }
}

}  // namespace caffe_compat::CAFFE_COMPAT_SIMD
