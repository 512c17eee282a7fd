// The transform of a raw record at the speed of memory: in one pass, with non-temporal stores of
// whole cache lines.
#pragma once

#include "batch_transform/image_transform.h"

namespace caffe_compat {

// transform_image for planar bytes of at least kStreamWidth columns.  The stores are seen by other
// threads only after a fence (run_parallel has one).
using StreamImage = void (*)(const ImageView& image, const CropWindow& crop,
                             const TransformParams& params, float* out);

constexpr int64_t kStreamWidth = 16;

// The versions, where there are any at all; simd_level() tells which the machine has.
extern const StreamImage stream_image_avx2, stream_image_avx512;

}  // namespace caffe_compat
