#include "common/simd_level.h"
#if CAFFE_COMPAT_HAS_SIMD

#include <algorithm>
#include <type_traits>

#include "linear/linear.h"

#pragma GCC target("avx2,fma")
#define CAFFE_COMPAT_SIMD avx2
#define CAFFE_COMPAT_SIMD_LANES 8
#include "common/simd.h"
#include "linear/linear_simd.h"

namespace caffe_compat {
const LinearKernels kLinearAvx2 = avx2::make_kernels();
}

#endif
