// The CUDA kernel of tf32_split.
//
//   high = a rounded to TF32 (to nearest, ties away from zero),  low = a - high
//
// A channels_last tensor is rows of `length` elements that lie together: the channels of a pixel,
// or all of a group's images or outputs.  Each row becomes three, of high or low parts:
//
//     row of a    [ a0 a1 a2 ]   --->   [ h0 h1 h2 | l0 l1 l2 | h0 h1 h2 ]
//
// One pass: 4 bytes read and 12 written for each element.
#pragma once

#include <cstring>

#include "common/cuda_utils.cuh"

namespace caffe_compat {
namespace tf32_split_cuda {

constexpr int kPieces = 3;

// Which pieces of a row are low parts: bit i for piece i.
using LowPieces = unsigned;

__device__ __forceinline__ float round_to_tf32(float a) {
  constexpr uint32_t kept = ~((1u << 13) - 1), half = 1u << 12;
  uint32_t bits;
  memcpy(&bits, &a, sizeof(bits));
  bits = (bits + half) & kept;
  float high;
  memcpy(&high, &bits, sizeof(high));
  return high;
}

// `Index` counts vectors of V elements of the output: 32 bits where they are enough, as dividing
// 64 bits takes several times longer.
template <int V, typename Index>
__global__ void __launch_bounds__(kThreads)
    tf32_split_kernel(const float* __restrict__ input, float* __restrict__ out, Index vectors,
                      Index row_vectors, LowPieces low_pieces) {
  const Index number = static_cast<Index>(global_thread());
  if (number >= vectors) return;
  const Index row = number / row_vectors, place = number % row_vectors;
  float a[V], high[V], low[V];
  load<V>(input + static_cast<int64_t>(number) * V, a);
#pragma unroll
  for (int v = 0; v < V; ++v) {
    high[v] = round_to_tf32(a[v]);
    low[v] = a[v] - high[v];
  }
  float* to = out + (static_cast<int64_t>(row) * kPieces * row_vectors + place) * V;
#pragma unroll
  for (int piece = 0; piece < kPieces; ++piece) {
    if (low_pieces >> piece & 1) {
      store<V>(low, to);
    } else {
      store<V>(high, to);
    }
    to += static_cast<int64_t>(row_vectors) * V;
  }
}

template <int V>
void launch(const float* input, float* out, int64_t rows, int64_t length, LowPieces low_pieces,
            cudaStream_t stream) {
  const int64_t vectors = rows * length / V, row_vectors = length / V;
  const dim3 blocks = blocks_for(vectors);
  if (vectors <= INT32_MAX) {
    auto kernel = tf32_split_kernel<V, uint32_t>;
    CAFFE_COMPAT_LAUNCH(kernel, blocks, kThreads, stream, input, out,
                        static_cast<uint32_t>(vectors), static_cast<uint32_t>(row_vectors),
                        low_pieces);
  } else {
    auto kernel = tf32_split_kernel<V, int64_t>;
    CAFFE_COMPAT_LAUNCH(kernel, blocks, kThreads, stream, input, out, vectors, row_vectors,
                        low_pieces);
  }
}

}  // namespace tf32_split_cuda

// From rows x length elements to rows x 3 x length.
inline void tf32_split_cuda_launch(const float* input, float* out, int64_t rows, int64_t length,
                                   tf32_split_cuda::LowPieces low_pieces, cudaStream_t stream) {
  if (rows * length == 0) return;
  if (vectors_fit(length, 4, input, static_cast<const float*>(out))) {
    tf32_split_cuda::launch<4>(input, out, rows, length, low_pieces, stream);
  } else {
    tf32_split_cuda::launch<1>(input, out, rows, length, low_pieces, stream);
  }
}

}  // namespace caffe_compat
