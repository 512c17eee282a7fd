// The CPU kernels of LRN, on dense float32 or float64 arrays.
#pragma once

#include "lrn/lrn.h"

namespace caffe_compat {

template <typename T>
void lrn_forward_cpu(const T* x, T* y, const LrnShape& shape, const LrnParams& params);

// dx from dy; the scale is computed again from x rather than kept.
template <typename T>
void lrn_backward_cpu(const T* dy, const T* x, T* dx, const LrnShape& shape,
                      const LrnParams& params);

}  // namespace caffe_compat
