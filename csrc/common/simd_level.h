// The vector set that kernels written with simd.h may use on this machine.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#if defined(__unix__) || defined(__APPLE__)
#include <unistd.h>
#endif

// Whether the kernels are there at all; their files are empty where it is 0.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define CAFFE_COMPAT_HAS_SIMD 1
#else
#define CAFFE_COMPAT_HAS_SIMD 0
#endif

namespace caffe_compat {

enum class SimdLevel { kNone, kAvx2, kAvx512 };

// CAFFE_COMPAT_SIMD=none, avx2 or avx512 in the environment lowers it, for tests and measurements.
inline SimdLevel simd_level() {
  static const SimdLevel level = [] {
#if CAFFE_COMPAT_HAS_SIMD
    const char* wish = std::getenv("CAFFE_COMPAT_SIMD");
    const auto allowed = [wish](const char* name) {
      return wish == nullptr || std::strcmp(wish, name) == 0 || std::strcmp(wish, "avx512") == 0;
    };
    if (allowed("avx512") && __builtin_cpu_supports("avx512f")) return SimdLevel::kAvx512;
    if (allowed("avx2") && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
      return SimdLevel::kAvx2;
    }
#endif
    return SimdLevel::kNone;
  }();
  return level;
}

// The size of a core's L2 cache in numbers of float32.
inline int64_t l2_cache_numbers() {
  static const int64_t numbers = [] {
    long bytes = 0;
#ifdef _SC_LEVEL2_CACHE_SIZE
    bytes = sysconf(_SC_LEVEL2_CACHE_SIZE);
#endif
    if (bytes <= 0) bytes = 1 << 20;
    return std::clamp<int64_t>(bytes, 256 << 10, 4 << 20) / static_cast<int64_t>(sizeof(float));
  }();
  return numbers;
}

}  // namespace caffe_compat
