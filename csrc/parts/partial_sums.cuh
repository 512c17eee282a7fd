// Sums over all pixels for each channel, in the same order in every run: each block of a kernel
// writes its own sums into one row of an array (rows, channels), and a second kernel adds the rows.
#pragma once

#include "common/cuda_utils.cuh"

namespace caffe_compat {

constexpr int kRowSumChannels = 8;  // of a block: 32 neighbouring bytes
constexpr int kRowSumThreads = 1024;

// The sums of a block's threads, V channels each, into `row`: `vectors` threads have different
// channels, and `together` threads the same ones.  `threads_sums` is shared memory for V numbers of
// each thread.  All threads of the block must come here; `count`: channels of the block.
template <int V, typename A>
__device__ __forceinline__ void write_block_sums(const A (&sums)[V], A* threads_sums, int vectors,
                                                 int together, int64_t count, A* row) {
#pragma unroll
  for (int v = 0; v < V; ++v) threads_sums[threadIdx.x * V + v] = sums[v];
  __syncthreads();
  const int pitch = vectors * V;
  for (int c = threadIdx.x; c < pitch && c < count; c += blockDim.x) {
    A total = 0;
    for (int r = 0; r < together; ++r) total += threads_sums[r * pitch + c];
    row[c] = total;
  }
}

// A block has kRowSumChannels channels; its other threads share out the rows.
template <typename A>
__global__ void __launch_bounds__(kRowSumThreads)
    sum_rows(const A* __restrict__ rows, A* __restrict__ out, int64_t count, int64_t channels) {
  CAFFE_COMPAT_SHARED(A, sums, kRowSumThreads);
  constexpr int together = kRowSumThreads / kRowSumChannels;
  const int thread = threadIdx.x, start = thread / kRowSumChannels;
  const int64_t channel =
      static_cast<int64_t>(blockIdx.x) * kRowSumChannels + thread % kRowSumChannels;
  A sum = 0;
  if (channel < channels) {
#pragma unroll 4
    for (int64_t r = start; r < count; r += together) sum += rows[r * channels + channel];
  }
  sums[thread] = sum;
#pragma unroll
  for (int half = together / 2; half > 0; half /= 2) {
    __syncthreads();
    if (start < half) sums[thread] += sums[thread + half * kRowSumChannels];
  }
  if (start == 0 && channel < channels) out[channel] = sums[thread];
}

template <typename A>
void sum_rows_cuda(const A* rows, A* out, int64_t count, int64_t channels, cudaStream_t stream) {
  if (channels == 0) return;
  auto kernel = sum_rows<A>;
  CAFFE_COMPAT_LAUNCH(kernel, dim3(static_cast<unsigned>(ceil_div(channels, kRowSumChannels))),
                      dim3(kRowSumThreads), stream, rows, out, count, channels);
}

}  // namespace caffe_compat
