// The CPU kernels of max pooling, on dense float32 or float64 arrays in either layout.
#pragma once

#include "pool/pool.h"

namespace caffe_compat {

// y and tap from x; with `relu` from max(x, 0).  NaN is passed on.
template <typename T>
void max_pool_forward_cpu(const T* x, T* y, uint8_t* tap, const PoolSizes& sizes, bool relu);

// Every element of dx: the sum of dy over the windows that it won, in the order of the windows.
template <typename T>
void max_pool_backward_cpu(const T* dy, const uint8_t* tap, T* dx, const PoolSizes& sizes);

}  // namespace caffe_compat
