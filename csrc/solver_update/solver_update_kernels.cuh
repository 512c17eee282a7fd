// The CUDA kernel of a solver update: one launch for up to kTensors tensors, each element read and
// written once, and with it the weights' bfloat16 copies.
#pragma once

#include <algorithm>

#include "common/cuda_utils.cuh"
#include "solver_update/solver_update.h"

namespace caffe_compat {

constexpr int kTensors = 32;            // in one launch; their UpdateArrays are kernel arguments
constexpr int64_t kUpdateChunk = 4096;  // elements of one tensor that a block updates

template <typename T>
struct UpdateBatch {
  UpdateArrays<T> tensors[kTensors];
  int64_t first_block[kTensors + 1];  // of each tensor; block numbers go on through all of them
};

// Whether all of a tensor's arrays are aligned for vector accesses of N elements.
template <int N, typename T>
__device__ __forceinline__ bool is_aligned(const UpdateArrays<T>& a) {
  const auto bits = reinterpret_cast<uintptr_t>(a.weight) |
                    reinterpret_cast<uintptr_t>(a.gradient) | reinterpret_cast<uintptr_t>(a.first) |
                    reinterpret_cast<uintptr_t>(a.second);
  const auto copy_bits = reinterpret_cast<uintptr_t>(a.copy);
  return bits % (N * sizeof(T)) == 0 && copy_bits % (N * sizeof(c10::BFloat16)) == 0;
}

// Elements i to i + N - 1, by vector accesses; the caller has checked the alignment.
template <UpdateRule rule, int N, typename T>
__device__ __forceinline__ void update_vector(const UpdateArrays<T>& a, int64_t i,
                                              const UpdateFactors<T>& factors,
                                              const UpdateConstants<T>& c) {
  T weight[N], gradient[N], first[N], second[N] = {};
  load<N>(a.weight + i, weight);
  load<N>(a.gradient + i, gradient);
  load<N>(a.first + i, first);
  if constexpr (RuleTraits<rule>::kHasSecond) load<N>(a.second + i, second);
#pragma unroll
  for (int k = 0; k < N; ++k) {
    update_element<rule>(weight[k], gradient[k], first[k], second[k], factors, c);
  }
  store<N>(weight, a.weight + i);
  store<N>(first, a.first + i);
  if constexpr (RuleTraits<rule>::kHasSecond) store<N>(second, a.second + i);
  if (c.keep_update) store<N>(gradient, a.gradient + i);
  if (a.copy != nullptr) {
    float rounded[N];
#pragma unroll
    for (int k = 0; k < N; ++k) rounded[k] = static_cast<float>(weight[k]);
    store<N>(rounded, a.copy + i);
  }
}

template <UpdateRule rule, typename T>
__global__ void __launch_bounds__(kThreads)
    update_kernel(UpdateBatch<T> batch, const T* clip, UpdateConstants<T> constants) {
  int tensor = 0;
  while (static_cast<int64_t>(blockIdx.x) >= batch.first_block[tensor + 1]) ++tensor;
  const UpdateArrays<T>& a = batch.tensors[tensor];
  const UpdateFactors<T> factors = update_factors(a, clip, constants);
  const int64_t begin = (blockIdx.x - batch.first_block[tensor]) * kUpdateChunk;
  const int64_t end = begin + kUpdateChunk < a.count ? begin + kUpdateChunk : a.count;

  constexpr int N = kVectorLength<T>;
  const int64_t packed_end = is_aligned<N>(a) ? begin + (end - begin) / N * N : begin;
  for (int64_t i = begin + threadIdx.x * N; i < packed_end; i += kThreads * N) {
    update_vector<rule, N>(a, i, factors, constants);
  }
  for (int64_t i = packed_end + threadIdx.x; i < end; i += kThreads) {
    update_vector<rule, 1>(a, i, factors, constants);
  }
}

// Fills in batch.first_block and updates all tensors; `clip` may be null.
template <UpdateRule rule, typename T, typename Stream>
void launch_update(UpdateBatch<T>& batch, int tensors, const T* clip,
                   const UpdateConstants<T>& constants, Stream stream) {
  int64_t blocks = 0;
  for (int i = 0; i < tensors; ++i) {
    batch.first_block[i] = blocks;
    blocks += ceil_div(batch.tensors[i].count, kUpdateChunk);
  }
  std::fill(batch.first_block + tensors, batch.first_block + kTensors + 1, blocks);
  if (blocks == 0) return;
  const auto kernel = update_kernel<rule, T>;
  CAFFE_COMPAT_LAUNCH(kernel, dim3(static_cast<unsigned>(blocks)), dim3(kThreads), stream, batch,
                      clip, constants);
}

}  // namespace caffe_compat
