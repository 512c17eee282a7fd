// The transform of a raw record at the speed of memory: one pass, whole cache lines, past the
// caches.
#pragma once

#include <vector>

#include "batch_transform/image_transform.h"

namespace caffe_compat {

// transform_image for planar bytes of at least kStreamWidth columns.  The stores are seen by other
// threads only after a fence (run_parallel has one).
using StreamImage = void (*)(const ImageView& image, const Window& window,
                             const TransformParams& params, float* out);

constexpr int64_t kStreamWidth = 16;

// The versions that this machine has the vector instructions for, best first; may be none.
std::vector<StreamImage> stream_image_versions();

}  // namespace caffe_compat
