#include "common/simd_level.h"
#if CAFFE_COMPAT_HAS_SIMD

#include "batch_transform/stream_image.h"

// GCC's own intrinsics begin with undefined registers, and it warns of them where they are inlined.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC target("avx2,fma")
#define CAFFE_COMPAT_SIMD avx2
#define CAFFE_COMPAT_SIMD_LANES 8
#include "batch_transform/stream_image_simd.h"

namespace caffe_compat {
const StreamImage stream_image_avx2 = avx2::stream_image;
}

#endif
