// The CUDA kernel of space_to_depth.
//
// A block makes a piece of one output row.  It reads the input's rows beneath it along their length
// and writes them into shared memory at their places in the output; from there whole 16-byte
// vectors go out, one after the other in memory:
//
//     input rows (c, dy)    --- one value a thread and row --->    shared [pixel][channel]
//     shared                --- 16 bytes a thread --------->       output [pixel][channel]
//
// Every element is read once and written once.  CaffeNet's input at batch 256 to bf16, block 4:
// 158 MB in, 80 MB out.
#pragma once

#include <algorithm>

#include "common/cuda_utils.cuh"
#include "space_to_depth/space_to_depth.h"

namespace caffe_compat {
namespace space_to_depth_cuda {

constexpr int kTileBytes = 12 * 1024;

// A piece of a row: `pixels` output pixels, each `pitch` elements of shared memory.  One vector
// more than the channels, so that the pixels' places fall into different banks.
struct RowPieces {
  int64_t count;  // in a row
  int pixels, pitch;
};

template <typename Out>
RowPieces make_row_pieces(const SpaceToDepthSizes& s) {
  static_assert((kMostDepth + kVectorLength<Out>)*sizeof(Out) <= kTileBytes);
  const int64_t pitch = s.out_channels + kVectorLength<Out>;
  const int64_t most = kTileBytes / static_cast<int64_t>(pitch * sizeof(Out));
  const int64_t count = ceil_div(s.out_width, most), pixels = ceil_div(s.out_width, count);
  return {ceil_div(s.out_width, pixels), static_cast<int>(pixels), static_cast<int>(pitch)};
}

template <typename In, typename Out>
__global__ void __launch_bounds__(kThreads)
    space_to_depth_kernel(const In* __restrict__ input, Out* __restrict__ out, SpaceToDepthSizes s,
                          RowPieces pieces) {
  constexpr int V = kVectorLength<Out>;
  using Vector = AlignedVector<Out, V>;
  CAFFE_COMPAT_SHARED(Vector, memory, kTileBytes / 16);
  Out* const shared = reinterpret_cast<Out*>(memory);

  const int64_t row = blockIdx.x / pieces.count;  // of all images
  const int64_t image = row / s.out_height, y = row % s.out_height;
  const int64_t first = blockIdx.x % pieces.count * pieces.pixels;
  const int pixels =
      static_cast<int>(s.out_width - first < pieces.pixels ? s.out_width - first : pieces.pixels);
  const int block = static_cast<int>(s.block), channels = static_cast<int>(s.channels);
  const int64_t top = y * block - s.pad_h, left = first * block - s.pad_w;

  // Rows dy of a block that lie in the input.
  const int first_row = static_cast<int>(top < 0 ? -top : 0);
  const int last_row = static_cast<int>(s.height - top < block ? s.height - top : block);
  for (int column = threadIdx.x; column < pixels * block; column += blockDim.x) {
    const int64_t w = left + column;
    const bool inside = w >= 0 && w < s.width;
    const In* from = input + image * s.stride_n + top * s.stride_h + w * s.stride_w;
    Out* to = shared + column / block * pieces.pitch + column % block;
    int dy = 0;
#pragma unroll 6
    for (int line = 0; line < channels * block; ++line) {
      const bool row_inside = dy >= first_row && dy < last_row;
      const In value = inside && row_inside ? __ldg(from) : static_cast<In>(0.0f);
      to[line * block] = static_cast<Out>(static_cast<float>(value));
      from += s.stride_h;
      if (++dy == block) {
        dy = 0;
        from += s.stride_c - block * s.stride_h;
      }
    }
  }
  const int filled = channels * block * block;
  const int depth = static_cast<int>(s.out_channels), added = depth - filled;
  for (int i = threadIdx.x; i < pixels * added; i += blockDim.x) {
    shared[i / added * pieces.pitch + filled + i % added] = static_cast<Out>(0.0f);
  }
  __syncthreads();

  const int vectors = depth / V;
  Vector* const written = reinterpret_cast<Vector*>(out + (row * s.out_width + first) * depth);
  for (int i = threadIdx.x; i < pixels * vectors; i += blockDim.x) {
    written[i] =
        *reinterpret_cast<const Vector*>(shared + i / vectors * pieces.pitch + i % vectors * V);
  }
}

}  // namespace space_to_depth_cuda

// `out` starts at a 16-byte boundary.
template <typename In, typename Out>
void space_to_depth_cuda_launch(const In* input, Out* out, const SpaceToDepthSizes& s,
                                cudaStream_t stream) {
  if (s.batch == 0) return;
  const auto pieces = space_to_depth_cuda::make_row_pieces<Out>(s);
  const int64_t columns = ceil_div(pieces.pixels * s.block, 32) * 32;
  const dim3 threads(static_cast<unsigned>(std::min<int64_t>(columns, kThreads)));
  const dim3 blocks(static_cast<unsigned>(s.batch * s.out_height * pieces.count));
  auto kernel = space_to_depth_cuda::space_to_depth_kernel<In, Out>;
  CAFFE_COMPAT_LAUNCH(kernel, blocks, threads, stream, input, out, s, pieces);
}

}  // namespace caffe_compat
