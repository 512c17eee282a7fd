// The kernel of stream_image.h, for a file of one instruction set (see common/simd.h).
#pragma once

#include "common/simd.h"

namespace caffe_compat::CAFFE_COMPAT_SIMD {

constexpr int64_t kLineBytes = 64;
// Processors fetch ahead within a page only, and a record has a page every 16 rows.
constexpr int64_t kRowsAhead = 8;

// A cache line of floats.
struct Line {
#if CAFFE_COMPAT_SIMD_LANES == 16
  Floats all;

  static Line fill(float value) { return {Floats::all(value)}; }
  static Line load(const float* from) { return {Floats::load(from)}; }
  static Line of_bytes(const uint8_t* from) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
    return {{_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes))}};
  }
  // The last `count` values of `first`, then the first of `second`.
  static Line join(Line first, Line second, int64_t count) {
    const __m512i places =
        _mm512_add_epi32(_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
                         _mm512_set1_epi32(static_cast<int>(16 - count)));
    return {{_mm512_permutex2var_ps(first.all.value, places, second.all.value)}};
  }
  Line reversed() const {
    const __m512i places = _mm512_setr_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    return {{_mm512_permutexvar_ps(places, all.value)}};
  }
  void store(float* to) const { all.store(to); }
  void stream(float* to) const { all.stream(to); }
  Line operator-(Line b) const { return {all - b.all}; }
  Line operator*(Line b) const { return {all * b.all}; }
#else
  Floats low, high;

  static Line fill(float value) { return {Floats::all(value), Floats::all(value)}; }
  static Line load(const float* from) { return {Floats::load(from), Floats::load(from + 8)}; }
  static Line of_bytes(const uint8_t* from) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
    return {{_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes))},
            {_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_srli_si128(bytes, 8)))}};
  }
  // The last `count` values of `first`, then the first of `second`.
  static Line join(Line first, Line second, int64_t count) {
    float both[32];
    first.store(both);
    second.store(both + 16);
    return load(both + 16 - count);
  }
  Line reversed() const {
    const __m256i places = _mm256_setr_epi32(7, 6, 5, 4, 3, 2, 1, 0);
    return {{_mm256_permutevar8x32_ps(high.value, places)},
            {_mm256_permutevar8x32_ps(low.value, places)}};
  }
  void store(float* to) const {
    low.store(to);
    high.store(to + 8);
  }
  void stream(float* to) const {
    low.stream(to);
    high.stream(to + 8);
  }
  Line operator-(Line b) const { return {low - b.low, high - b.high}; }
  Line operator*(Line b) const { return {low * b.low, high * b.high}; }
#endif
};

// A row of the output: row(i) has its values i to i + 15.
template <MeanKind kMean, bool kMirror>
struct Row {
  const uint8_t* in;
  const float* mean;
  int64_t width;
  Line channel_mean, scale;

  Line operator()(int64_t i) const {
    const int64_t place = kMirror ? width - kStreamWidth - i : i;
    Line line = Line::of_bytes(in + place);
    if (kMean == MeanKind::kPerChannel) line = line - channel_mean;
    if (kMean == MeanKind::kImage) line = line - Line::load(mean + place);
    line = line * scale;
    return kMirror ? line.reversed() : line;
  }
};

// Rows follow each other without a gap, so that most lines of the output hold the end of one row
// and the beginning of the next: the last values of a row wait in a register for it.
template <MeanKind kMean, bool kMirror>
void stream_rows(const ImageView& image, const Window& window, const TransformParams& params,
                 float* out) {
  const int64_t width = params.width;
  const Line scale = Line::fill(params.scale);
  Line last = Line::fill(0.0f);
  auto held = static_cast<int64_t>(reinterpret_cast<uintptr_t>(out) % kLineBytes / sizeof(float));
  float* line = out - held;  // the next to write; its first `held` values are in `last`
  for (int64_t c = 0; c < image.channels; ++c) {
    const Line channel_mean = Line::fill(kMean == MeanKind::kPerChannel ? params.mean[c] : 0.0f);
    for (int64_t h = 0; h < params.height; ++h) {
      const int64_t row = window.top + h;
      const uint8_t* in =
          image.data + c * image.channel_stride + row * image.row_stride + window.left;
      const float* mean = params.mean;
      if (kMean == MeanKind::kImage) mean += (c * image.height + row) * image.width + window.left;
      for (int64_t i = 0; i < width; i += kLineBytes)
        __builtin_prefetch(in + kRowsAhead * image.row_stride + i);

      const Row<kMean, kMirror> row_values{in, mean, width, channel_mean, scale};
      int64_t i = 0;
      if (held != 0) {
        if (c == 0 && h == 0) {
          row_values(0).store(out);  // the image before ends in this line
        } else {
          Line::join(last, row_values(0), held).stream(line);
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
void choose_mirror(const ImageView& image, const Window& window, const TransformParams& params,
                   float* out) {
  if (window.mirror) {
    stream_rows<kMean, true>(image, window, params, out);
  } else {
    stream_rows<kMean, false>(image, window, params, out);
  }
}

inline void stream_image(const ImageView& image, const Window& window,
                         const TransformParams& params, float* out) {
  switch (params.mean_kind) {
    case MeanKind::kNone:
      return choose_mirror<MeanKind::kNone>(image, window, params, out);
    case MeanKind::kPerChannel:
      return choose_mirror<MeanKind::kPerChannel>(image, window, params, out);
    case MeanKind::kImage:
      return choose_mirror<MeanKind::kImage>(image, window, params, out);
  }
}

}  // namespace caffe_compat::CAFFE_COMPAT_SIMD
