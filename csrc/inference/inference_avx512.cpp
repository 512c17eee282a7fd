// The kernels of inference.h with AVX-512.

#include "common/simd_level.h"
#include "inference/inference.h"

#if CAFFE_COMPAT_HAS_SIMD

#include <immintrin.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <utility>

// In GCC 12's own avx512fintrin.h:
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC target("avx512f")
#define CAFFE_COMPAT_SIMD avx512
#define CAFFE_COMPAT_SIMD_LANES 16
#include "common/simd.h"
#include "inference/inference_simd.h"

namespace caffe_compat {

const InferenceKernels& inference_avx512() { return avx512::inference::kKernels; }

}  // namespace caffe_compat

#endif
