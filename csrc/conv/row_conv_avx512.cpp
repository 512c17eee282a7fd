// The kernels of row_conv.h with AVX-512.

#include "common/simd_level.h"
#include "conv/row_conv.h"

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
#include "conv/row_conv_simd.h"

namespace caffe_compat {

const RowConvKernels& row_conv_avx512() { return avx512::row_conv::kKernels; }

}  // namespace caffe_compat

#endif
