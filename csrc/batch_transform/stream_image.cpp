#include "batch_transform/stream_image.h"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)

// GCC's own intrinsics begin with undefined registers, and it warns of them where they are inlined.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>

namespace caffe_compat {
namespace {

constexpr int64_t kLineBytes = 64;
// Processors fetch ahead within a page only, and a record has a page every 16 rows.
constexpr int64_t kRowsAhead = 8;

inline void prefetch(const void* address) { __builtin_prefetch(address, 0, 3); }

// Everything that a version uses is defined between the two pragmas; what is shared with other
// files must not be compiled for instructions that a machine may lack.
#pragma GCC push_options
#pragma GCC target("avx512f")
namespace avx512 {

struct Line {
  __m512 v;

  static Line fill(float value) { return {_mm512_set1_ps(value)}; }
  static Line load(const float* from) { return {_mm512_loadu_ps(from)}; }
  static Line of_bytes(const uint8_t* from) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
    return {_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes))};
  }
  // The last `count` values of `first`, then the first of `second`.
  static Line join(Line first, Line second, int64_t count) {
    const __m512i ascending =
        _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i places =
        _mm512_add_epi32(ascending, _mm512_set1_epi32(static_cast<int>(16 - count)));
    return {_mm512_permutex2var_ps(first.v, places, second.v)};
  }
  Line reversed() const {
    const __m512i descending =
        _mm512_setr_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    return {_mm512_permutexvar_ps(descending, v)};
  }
  void store(float* to) const { _mm512_storeu_ps(to, v); }
  void stream(float* to) const { _mm512_stream_ps(to, v); }
  Line operator-(Line b) const { return {_mm512_sub_ps(v, b.v)}; }
  Line operator*(Line b) const { return {_mm512_mul_ps(v, b.v)}; }
};

#include "batch_transform/stream_image_body.h"

}  // namespace avx512
#pragma GCC pop_options

#pragma GCC push_options
#pragma GCC target("avx2")
namespace avx2 {

struct Line {
  __m256 low, high;

  static Line fill(float value) { return {_mm256_set1_ps(value), _mm256_set1_ps(value)}; }
  static Line load(const float* from) { return {_mm256_loadu_ps(from), _mm256_loadu_ps(from + 8)}; }
  static Line of_bytes(const uint8_t* from) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
    return {_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes)),
            _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_srli_si128(bytes, 8)))};
  }
  // The last `count` values of `first`, then the first of `second`.
  static Line join(Line first, Line second, int64_t count) {
    float both[32];
    first.store(both);
    second.store(both + 16);
    return load(both + 16 - count);
  }
  Line reversed() const {
    const __m256i descending = _mm256_setr_epi32(7, 6, 5, 4, 3, 2, 1, 0);
    return {_mm256_permutevar8x32_ps(high, descending), _mm256_permutevar8x32_ps(low, descending)};
  }
  void store(float* to) const {
    _mm256_storeu_ps(to, low);
    _mm256_storeu_ps(to + 8, high);
  }
  void stream(float* to) const {
    _mm256_stream_ps(to, low);
    _mm256_stream_ps(to + 8, high);
  }
  Line operator-(Line b) const { return {_mm256_sub_ps(low, b.low), _mm256_sub_ps(high, b.high)}; }
  Line operator*(Line b) const { return {_mm256_mul_ps(low, b.low), _mm256_mul_ps(high, b.high)}; }
};

#include "batch_transform/stream_image_body.h"

}  // namespace avx2
#pragma GCC pop_options

}  // namespace

std::vector<StreamImage> stream_image_versions() {
  std::vector<StreamImage> versions;
  if (__builtin_cpu_supports("avx512f")) versions.push_back(avx512::stream_image);
  if (__builtin_cpu_supports("avx2")) versions.push_back(avx2::stream_image);
  return versions;
}

}  // namespace caffe_compat

#else

namespace caffe_compat {
std::vector<StreamImage> stream_image_versions() { return {}; }
}  // namespace caffe_compat

#endif
