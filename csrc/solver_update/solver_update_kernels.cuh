// The CUDA kernel of a solver update: one launch for up to kTensors tensors, each element read and
// written once.
#pragma once

#include <algorithm>

#include "common/cuda_utils.cuh"
#include "solver_update/solver_update.h"

namespace caffe_compat {

constexpr int kTensors = 32;                // their addresses travel as the kernel's arguments
constexpr int kElementsPerThread = 4;       // of the largest tensor
constexpr int64_t kBlocksPerTensor = 4096;  // at most; threads go on in strides

template <typename T>
struct UpdateBatch {
  UpdateArrays<T> tensors[kTensors];
};

// Row blockIdx.y of the grid updates tensor blockIdx.y.
template <UpdateRule rule, typename T>
__global__ void __launch_bounds__(kThreads)
    update_kernel(UpdateBatch<T> batch, const T* scale, UpdateConstants<T> constants) {
  const UpdateArrays<T> arrays = batch.tensors[blockIdx.y];
  const T factor = (scale == nullptr ? T(1) : *scale) * constants.gradient_scale;
  const int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = global_thread(); i < arrays.count; i += stride) {
    update_element<rule>(arrays, i, factor, constants);
  }
}

template <UpdateRule rule, typename T, typename Stream>
void launch_update(const UpdateBatch<T>& batch, int tensors, const T* scale,
                   const UpdateConstants<T>& constants, Stream stream) {
  int64_t largest = 0;
  for (int i = 0; i < tensors; ++i) largest = std::max(largest, batch.tensors[i].count);
  if (largest == 0) return;
  const int64_t blocks =
      std::min(ceil_div(largest, kThreads * kElementsPerThread), kBlocksPerTensor);
  const dim3 grid(static_cast<unsigned>(blocks), static_cast<unsigned>(tensors));
  const auto kernel = update_kernel<rule, T>;
  CAFFE_COMPAT_LAUNCH(kernel, grid, dim3(kThreads), stream, batch, scale, constants);
}

}  // namespace caffe_compat
