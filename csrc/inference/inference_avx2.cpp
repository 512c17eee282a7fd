// The kernels of inference.h with AVX2.

#include "common/simd_level.h"
#include "inference/inference.h"

#if CAFFE_COMPAT_HAS_SIMD

#include <immintrin.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <utility>

#pragma GCC target("avx2,fma")
#define CAFFE_COMPAT_SIMD avx2
#define CAFFE_COMPAT_SIMD_LANES 8
#include "common/simd.h"
#include "inference/inference_simd.h"

namespace caffe_compat {

const InferenceKernels& inference_avx2() { return avx2::inference::kKernels; }

}  // namespace caffe_compat

#endif
