// The kernels of row_conv.h with AVX2 and FMA.

#include "common/simd_level.h"
#include "conv/row_conv.h"

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
#include "conv/row_conv_simd.h"

namespace caffe_compat {

const RowConvKernels& row_conv_avx2() { return avx2::row_conv::kKernels; }

}  // namespace caffe_compat

#endif
