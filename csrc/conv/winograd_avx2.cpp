// The kernels of winograd.h with AVX2 and FMA.

#include "common/simd_level.h"
#include "conv/winograd.h"
#include "conv/winograd_matrices.h"

#if CAFFE_COMPAT_HAS_SIMD

#include <immintrin.h>

#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <utility>

#pragma GCC target("avx2,fma")
#define CAFFE_COMPAT_SIMD avx2
#define CAFFE_COMPAT_SIMD_LANES 8
#include "common/simd.h"
#include "conv/winograd_simd.h"

namespace caffe_compat {

const WinogradKernels* winograd_avx2(int out_tile, int kernel) {
  return avx2::find_winograd(out_tile, kernel);
}

}  // namespace caffe_compat

#endif
