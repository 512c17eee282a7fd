// The kernels of winograd.h with AVX-512.

#include "common/simd_level.h"
#include "conv/winograd.h"
#include "conv/winograd_matrices.h"

#if CAFFE_COMPAT_HAS_SIMD

#include <immintrin.h>

#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <utility>

#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // in GCC 12's own avx512fintrin.h
#pragma GCC target("avx512f")
#define CAFFE_COMPAT_SIMD avx512
#define CAFFE_COMPAT_SIMD_LANES 16
#include "common/simd.h"
#include "conv/winograd_simd.h"

namespace caffe_compat {

const WinogradKernels* winograd_avx512(int out_tile, int kernel) {
  return avx512::find_winograd(out_tile, kernel);
}

}  // namespace caffe_compat

#endif
