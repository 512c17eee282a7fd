// The kernels of inference.h for one vector set.
#pragma once

#include <cstdint>

#include "common/vectors_simd.h"
#include "conv/epilogue_simd.h"
#include "inference/depthwise_simd.h"
#include "inference/direct_simd.h"
#include "inference/inference.h"
#include "inference/pool_simd.h"
#include "inference/product_simd.h"
#include "inference/separable_simd.h"

namespace caffe_compat::CAFFE_COMPAT_SIMD {
namespace inference {

inline void pointwise(const Pointwise& p, TaskRange pixels) {
  const Floats first_factor = Floats::all(p.first_factor);
  const Floats second_factor = Floats::all(p.second_factor);
  for (int64_t pixel = pixels.first; pixel < pixels.last; ++pixel) {
    const float* first = p.first.data + pixel * p.first.stride;
    const float* second = p.second + pixel * p.second_stride;
    float* to = p.out.data + pixel * p.out.stride;
    for_each_vector(p.out.channels, [&](int64_t c, int count, auto whole) {
      Floats value = load_some<whole>(first + c, count);
      if (p.first_factor != 1) value = value * first_factor;
      if (p.second) {
        value = multiply_add(load_some<whole>(second + c, count), second_factor, value);
      }
      if (p.scale) value = value * load_some<whole>(p.scale + c, count);
      store_some<whole>(Finish<whole>(p.epilogue, c, count)(value, pixel), to + c, count);
    });
  }
}

constexpr InferenceKernels kKernels = {.packed_size = packed_size,
                                       .pack_weights = pack_weights,
                                       .direct_tasks = direct_tasks,
                                       .direct = direct,
                                       .depthwise_tasks = depthwise_tasks,
                                       .depthwise = depthwise,
                                       .separable_tasks = separable_tasks,
                                       .separable_scratch = separable_scratch,
                                       .separable = separable,
                                       .pool = pool,
                                       .pointwise = pointwise,
                                       .product_tasks = product_tasks,
                                       .product = product};

}  // namespace inference
}  // namespace caffe_compat::CAFFE_COMPAT_SIMD
