// Floats, a vector register of float, for kernels that a compiler does not vectorise well by
// itself: one source for AVX2 (8 lanes) and AVX-512 (16 lanes).
//
// A kernel is a header that defines templates in namespace CAFFE_COMPAT_SIMD; `<kernel>_avx2.cpp`
// and `<kernel>_avx512.cpp` include it after everything else:
//
//   #include <...>                     // all other headers first: the pragma must not reach them
//   #pragma GCC target("avx512f")      // to the end of the file: templates are made there
//   #define CAFFE_COMPAT_SIMD avx512
//   #define CAFFE_COMPAT_SIMD_LANES 16   // GCC 12 sets __AVX512F__ too late for this file
//   #include "common/simd.h"
//   #include "<kernel>_simd.h"
//
// and export plain functions, among which the caller chooses by simd_level().  Include simd_level.h
// there, not this file.
#pragma once

#include <immintrin.h>

namespace caffe_compat::CAFFE_COMPAT_SIMD {

#define CAFFE_COMPAT_SIMD_INLINE inline __attribute__((always_inline))

#if CAFFE_COMPAT_SIMD_LANES == 16

struct Floats {
  static constexpr int kLanes = 16;
  __m512 value;

  static CAFFE_COMPAT_SIMD_INLINE Floats zero() { return {_mm512_setzero_ps()}; }
  static CAFFE_COMPAT_SIMD_INLINE Floats all(float x) { return {_mm512_set1_ps(x)}; }
  static CAFFE_COMPAT_SIMD_INLINE Floats load(const float* from) { return {_mm512_loadu_ps(from)}; }
  // The first `count` lanes, zero behind them; reads no further.
  static CAFFE_COMPAT_SIMD_INLINE Floats load(const float* from, int count) {
    return {_mm512_maskz_loadu_ps(mask(count), from)};
  }
  CAFFE_COMPAT_SIMD_INLINE void store(float* to) const { _mm512_storeu_ps(to, value); }
  CAFFE_COMPAT_SIMD_INLINE void store(float* to, int count) const {
    _mm512_mask_storeu_ps(to, mask(count), value);
  }
  // A non-temporal store, which leaves the caches alone: `to` must be aligned to the vector, and
  // _mm_sfence() must follow at the end.
  CAFFE_COMPAT_SIMD_INLINE void stream(float* to) const { _mm512_stream_ps(to, value); }
  CAFFE_COMPAT_SIMD_INLINE float sum() const { return _mm512_reduce_add_ps(value); }

  friend CAFFE_COMPAT_SIMD_INLINE Floats operator+(Floats a, Floats b) {
    return {_mm512_add_ps(a.value, b.value)};
  }
  friend CAFFE_COMPAT_SIMD_INLINE Floats operator-(Floats a, Floats b) {
    return {_mm512_sub_ps(a.value, b.value)};
  }
  friend CAFFE_COMPAT_SIMD_INLINE Floats operator*(Floats a, Floats b) {
    return {_mm512_mul_ps(a.value, b.value)};
  }
  // b where a or b is NaN.
  friend CAFFE_COMPAT_SIMD_INLINE Floats max(Floats a, Floats b) {
    return {_mm512_max_ps(a.value, b.value)};
  }
  friend CAFFE_COMPAT_SIMD_INLINE Floats min(Floats a, Floats b) {
    return {_mm512_min_ps(a.value, b.value)};
  }
  // The larger one; NaN where a or b is NaN: of the two orders one gives it, and its bits stay.
  friend CAFFE_COMPAT_SIMD_INLINE Floats max_or_nan(Floats a, Floats b) {
    const __m512i either = _mm512_or_si512(_mm512_castps_si512(_mm512_max_ps(a.value, b.value)),
                                           _mm512_castps_si512(_mm512_max_ps(b.value, a.value)));
    return {_mm512_castsi512_ps(either)};
  }
  // a * b + c, rounded once.
  friend CAFFE_COMPAT_SIMD_INLINE Floats multiply_add(Floats a, Floats b, Floats c) {
    return {_mm512_fmadd_ps(a.value, b.value, c.value)};
  }

 private:
  static CAFFE_COMPAT_SIMD_INLINE __mmask16 mask(int count) {
    return static_cast<__mmask16>((1u << count) - 1);
  }
};

#elif CAFFE_COMPAT_SIMD_LANES == 8

struct Floats {
  static constexpr int kLanes = 8;
  __m256 value;

  static CAFFE_COMPAT_SIMD_INLINE Floats zero() { return {_mm256_setzero_ps()}; }
  static CAFFE_COMPAT_SIMD_INLINE Floats all(float x) { return {_mm256_set1_ps(x)}; }
  static CAFFE_COMPAT_SIMD_INLINE Floats load(const float* from) { return {_mm256_loadu_ps(from)}; }
  // The first `count` lanes, zero behind them; reads no further.
  static CAFFE_COMPAT_SIMD_INLINE Floats load(const float* from, int count) {
    return {_mm256_maskload_ps(from, mask(count))};
  }
  CAFFE_COMPAT_SIMD_INLINE void store(float* to) const { _mm256_storeu_ps(to, value); }
  CAFFE_COMPAT_SIMD_INLINE void store(float* to, int count) const {
    _mm256_maskstore_ps(to, mask(count), value);
  }
  // A non-temporal store, which leaves the caches alone: `to` must be aligned to the vector, and
  // _mm_sfence() must follow at the end.
  CAFFE_COMPAT_SIMD_INLINE void stream(float* to) const { _mm256_stream_ps(to, value); }
  CAFFE_COMPAT_SIMD_INLINE float sum() const {
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(value), _mm256_extractf128_ps(value, 1));
    four = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(four, _mm_shuffle_ps(four, four, 1)));
  }

  friend CAFFE_COMPAT_SIMD_INLINE Floats operator+(Floats a, Floats b) {
    return {_mm256_add_ps(a.value, b.value)};
  }
  friend CAFFE_COMPAT_SIMD_INLINE Floats operator-(Floats a, Floats b) {
    return {_mm256_sub_ps(a.value, b.value)};
  }
  friend CAFFE_COMPAT_SIMD_INLINE Floats operator*(Floats a, Floats b) {
    return {_mm256_mul_ps(a.value, b.value)};
  }
  // b where a or b is NaN.
  friend CAFFE_COMPAT_SIMD_INLINE Floats max(Floats a, Floats b) {
    return {_mm256_max_ps(a.value, b.value)};
  }
  friend CAFFE_COMPAT_SIMD_INLINE Floats min(Floats a, Floats b) {
    return {_mm256_min_ps(a.value, b.value)};
  }
  // The larger one; NaN where a or b is NaN: of the two orders one gives it, and its bits stay.
  friend CAFFE_COMPAT_SIMD_INLINE Floats max_or_nan(Floats a, Floats b) {
    return {_mm256_or_ps(_mm256_max_ps(a.value, b.value), _mm256_max_ps(b.value, a.value))};
  }
  // a * b + c, rounded once.
  friend CAFFE_COMPAT_SIMD_INLINE Floats multiply_add(Floats a, Floats b, Floats c) {
    return {_mm256_fmadd_ps(a.value, b.value, c.value)};
  }

 private:
  static CAFFE_COMPAT_SIMD_INLINE __m256i mask(int count) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
};

#else
#error "simd.h: define CAFFE_COMPAT_SIMD_LANES as 16 (AVX-512) or 8 (AVX2 with FMA)"
#endif

}  // namespace caffe_compat::CAFFE_COMPAT_SIMD
