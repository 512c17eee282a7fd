#include "common/simd_level.h"
#if CAFFE_COMPAT_HAS_SIMD

#include <algorithm>
#include <type_traits>

#include "linear/linear.h"

#pragma GCC target("avx512f")
#define CAFFE_COMPAT_SIMD avx512
#define CAFFE_COMPAT_SIMD_LANES 16
#include "common/simd.h"
#include "linear/linear_simd.h"

namespace caffe_compat {
const LinearKernels kLinearAvx512 = avx512::make_kernels();
}

#endif
