// Weight gradient of a channels_last convolution.
//
//   dw[o, tap, c] = sum over pixels of dy[pixel, o] * x[pixel under tap, c]
//
// for each group: rows of the product are outputs, columns are (tap, channel), the depth is the
// pixels.  It is a split-K product: for each tile of dw several blocks share the pixels out, and a
// second pass (reduce_split_k_nhwc) adds what they found in the order of the pixels.  Tiles lie in
// shared memory as in global memory, pixel by pixel, and are transposed when they are read.
#pragma once

#include <algorithm>

#include "common/async_copy.cuh"
#include "conv/conv.h"
#include "conv/divider.cuh"
#include "conv/nhwc/warp_accumulators.cuh"

namespace caffe_compat {
namespace nhwc_cuda {

constexpr int kWeightGradColumns = 128;

// The tall tile where it computes no more rows than the low one; see launch_fitting_gather().
inline int64_t weight_grad_rows(const ConvSizes& s, bool split_tf32) {
  return !split_tf32 && ceil_div(s.group_outputs(), 64) % 2 == 0 ? 128 : 64;
}

// How the pixels are shared out: enough splits to fill a large GPU with blocks, none shorter than
// kLeastSplitPixels.  A function of the sizes only, so that the order of the sum, and with it
// the result, is the same on every GPU.
constexpr int64_t kLeastSplitPixels = 512;
struct SplitK {
  int64_t count, pixels;  // splits, and pixels of each but the last

  static constexpr int64_t kSplitStep = 32;  // whole steps of the kernel

  SplitK(const ConvSizes& s, bool split_tf32) {
    const int64_t all = s.batch * s.out_pixels();
    const int64_t blocks = ceil_div(s.group_outputs(), weight_grad_rows(s, split_tf32)) *
                           ceil_div(s.depth(), kWeightGradColumns) * s.groups;
    const int64_t wanted = std::min({ceil_div(kFullGridBlocks, blocks),
                                     ceil_div(all, kLeastSplitPixels), kMostGridYZ / s.groups});
    pixels = ceil_div(ceil_div(all, std::max<int64_t>(wanted, 1)), kSplitStep) * kSplitStep;
    count = std::max<int64_t>(ceil_div(all, std::max<int64_t>(pixels, 1)), 1);
  }
};

template <typename T>
struct WeightGradArguments {
  const T *dy, *x;
  float* partial;  // (split, output, tap, channel of the group)
  int64_t channels, outputs;
  int32_t groups, group_channels, group_outputs, columns;  // columns: taps * group_channels
  int32_t height, width, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w;
  uint32_t pixels, split_pixels;
  conv_cuda::Divider by_out_pixels, by_out_width, by_kernel_w, by_group_channels;

  WeightGradArguments(const T* dy, const T* x, float* partial, const ConvSizes& s,
                      const SplitK& split_k)
      : dy(dy),
        x(x),
        partial(partial),
        channels(s.channels),
        outputs(s.outputs),
        groups(static_cast<int32_t>(s.groups)),
        group_channels(static_cast<int32_t>(s.group_channels())),
        group_outputs(static_cast<int32_t>(s.group_outputs())),
        columns(static_cast<int32_t>(s.depth())),
        height(static_cast<int32_t>(s.height)),
        width(static_cast<int32_t>(s.width)),
        stride_h(static_cast<int32_t>(s.stride_h)),
        stride_w(static_cast<int32_t>(s.stride_w)),
        pad_h(static_cast<int32_t>(s.pad_h)),
        pad_w(static_cast<int32_t>(s.pad_w)),
        dilation_h(static_cast<int32_t>(s.dilation_h)),
        dilation_w(static_cast<int32_t>(s.dilation_w)),
        pixels(static_cast<uint32_t>(s.batch * s.out_pixels())),
        split_pixels(static_cast<uint32_t>(split_k.pixels)),
        by_out_pixels(s.out_pixels()),
        by_out_width(s.out_width),
        by_kernel_w(s.kernel_w),
        by_group_channels(s.group_channels()) {}
};

// One operand's tile in shared memory: pixels of `width` numbers, swizzled: a chunk moves within
// its pixel so that what is read together lies in different banks.  Eight bank groups of 16 bytes,
// and the chunk that each holds (of a pixel's first eight; the next eight likewise):
//
//     16-bit types: ldmatrix reads          float32: a fragment reads two
//     one chunk of 8 pixels                 chunks of 4 pixels, word by word
//
//     bank group  0 1 2 3 4 5 6 7           bank group  0 1 2 3 4 5 6 7
//     pixel 0     0 1 2 3 4 5 6 7           pixel 0     0 1 2 3 4 5 6 7
//     pixel 1     1 0 3 2 5 4 7 6           pixel 1     2 3 0 1 6 7 4 5
//     pixel 2     2 3 0 1 6 7 4 5           pixel 2     4 5 6 7 0 1 2 3
//     pixel 3     3 2 1 0 7 6 5 4           pixel 3     6 7 4 5 2 3 0 1
//       ...                                 pixel 4     as pixel 0
//     pixel 7     7 6 5 4 3 2 1 0
template <typename Format, int width>
struct SharedPixelTile {
  using T = typename Format::Element;
  static constexpr int kDepth = Format::kFloat ? 16 : 32;    // pixels: two fragments deep
  static constexpr int kChunks = width / Format::kPerChunk;  // of a pixel
  static constexpr int kBytes = kDepth * kChunks * kChunkBytes;
  static constexpr int kPixelsPerPass = kThreads / kChunks, kPasses = kDepth / kPixelsPerPass;

  __device__ static int shared_offset(int pixel, int chunk) {
    const int swizzle = Format::kFloat ? pixel % 4 * 2 : pixel % 8;
    return (pixel * kChunks + (chunk ^ swizzle)) * kChunkBytes;
  }

  // The bits of a pixel's float32 number `at`.
  __device__ static uint32_t word(const char* tile, int pixel, int at) {
    uint32_t bits;
    memcpy(&bits, tile + shared_offset(pixel, at / 4) + at % 4 * 4, sizeof bits);
    return bits;
  }
};

template <typename Format, int rows>
__global__ void __launch_bounds__(kThreads, 2)
    weight_grad_gemm(WeightGradArguments<typename Format::Element> p) {
  using T = typename Format::Element;
  using TileA = SharedPixelTile<Format, rows>;
  using TileB = SharedPixelTile<Format, kWeightGradColumns>;
  using Warps = WarpGrid<rows, kWeightGradColumns>;
  using Accumulators = WarpAccumulators<Format, Warps::kWarpRows>;
  constexpr int kPerChunk = Format::kPerChunk, kDepth = TileA::kDepth;
  constexpr int kStageBytes = TileA::kBytes + TileB::kBytes;
  CAFFE_COMPAT_DYNAMIC_SHARED(shared);

  const int first_column = blockIdx.x * kWeightGradColumns, first_row = blockIdx.y * rows;
  const int group = blockIdx.z % p.groups;
  const int64_t split_number = blockIdx.z / p.groups;
  const uint32_t first_pixel = static_cast<uint32_t>(split_number) * p.split_pixels;
  const uint32_t last_pixel =
      p.pixels - first_pixel < p.split_pixels ? p.pixels : first_pixel + p.split_pixels;

  // What this thread copies: one chunk of dy's and one of x's channels, of some pixels.
  const int row = first_row + threadIdx.x % TileA::kChunks * kPerChunk;
  const T* const dy = p.dy + static_cast<int64_t>(group) * p.group_outputs + row;
  const int column = first_column + threadIdx.x % TileB::kChunks * kPerChunk;
  uint32_t channel, kw;
  const uint32_t kh = p.by_kernel_w.divmod(p.by_group_channels.divmod(column, channel), kw);
  const int32_t down = static_cast<int32_t>(kh) * p.dilation_h - p.pad_h;
  const int32_t across = static_cast<int32_t>(kw) * p.dilation_w - p.pad_w;
  const T* const x = p.x + static_cast<int64_t>(group) * p.group_channels + channel;

  const uint32_t steps = (last_pixel - first_pixel + kDepth - 1) / kDepth;
  const auto fetch = [&](uint32_t step) {
    if (step < steps) {
      char* const stage = shared + step % kStages * kStageBytes;
      const uint32_t first = first_pixel + step * kDepth;
#pragma unroll
      for (int i = 0; i < TileA::kPasses; ++i) {
        const int pixel = threadIdx.x / TileA::kChunks + i * TileA::kPixelsPerPass;
        const bool inside = first + pixel < last_pixel && row < p.group_outputs;
        copy_16_bytes(stage + TileA::shared_offset(pixel, threadIdx.x % TileA::kChunks),
                      inside ? dy + (first + pixel) * p.outputs : p.dy, inside);
      }
#pragma unroll
      for (int i = 0; i < TileB::kPasses; ++i) {
        const int pixel = threadIdx.x / TileB::kChunks + i * TileB::kPixelsPerPass;
        uint32_t rest, out_column;
        const int64_t n = p.by_out_pixels.divmod(first + pixel, rest);
        const uint32_t out_row = p.by_out_width.divmod(rest, out_column);
        const int32_t y = static_cast<int32_t>(out_row) * p.stride_h + down;
        const int32_t z = static_cast<int32_t>(out_column) * p.stride_w + across;
        const bool inside = first + pixel < last_pixel && column < p.columns && y >= 0 &&
                            y < p.height && z >= 0 && z < p.width;
        copy_16_bytes(
            stage + TileA::kBytes + TileB::shared_offset(pixel, threadIdx.x % TileB::kChunks),
            inside ? x + ((n * p.height + y) * p.width + z) * p.channels : p.x, inside);
      }
    }
    commit_copies();
  };

  const int lane = threadIdx.x % 32;
  Accumulators sums;
#pragma unroll
  for (int step = 0; step < kStages - 1; ++step) fetch(step);
  for (uint32_t step = 0; step < steps; ++step) {
    wait_for_copies<kStages - 2>();
    // Stage `step` has arrived for everybody, and everybody has multiplied the one before it, which
    // is filled next.
    __syncthreads();
    fetch(step + kStages - 1);
    const char* const tile_a = shared + step % kStages * kStageBytes;
    const char* const tile_b = tile_a + TileA::kBytes;
// Split numbers fill the registers: one half of the depth at a time.
#pragma unroll Format::kSplit ? 1 : 2
    for (int k = 0; k < kDepth; k += kDepth / 2) {
      FragmentA a[Accumulators::kM];
      FragmentB b[Accumulators::kN];
      if constexpr (Format::kFloat) {
        const int pixel = k + lane % 4;
#pragma unroll
        for (int i = 0; i < Accumulators::kM; ++i) {
          const int at = Warps::first_row() + i * 16 + lane / 4;
#pragma unroll
          for (int w = 0; w < 4; ++w) {
            a[i].words[w] = TileA::word(tile_a, pixel + w / 2 * 4, at + w % 2 * 8);
          }
        }
#pragma unroll
        for (int j = 0; j < Accumulators::kN; ++j) {
          const int at = Warps::first_column() + j * 8 + lane / 4;
#pragma unroll
          for (int w = 0; w < 2; ++w) b[j].words[w] = TileB::word(tile_b, pixel + w * 4, at);
        }
      } else {
#pragma unroll
        for (int i = 0; i < Accumulators::kM; ++i) {
          const int chunk = Warps::first_row() / 8 + i * 2 + lane / 8 % 2;
          load_matrices<true>(tile_a + TileA::shared_offset(k + lane % 8 + lane / 16 * 8, chunk),
                              a[i].words);
        }
#pragma unroll
        for (int j = 0; j < Accumulators::kN; j += 2) {
          uint32_t words[4];
          const int chunk = Warps::first_column() / 8 + j + lane / 16;
          load_matrices<true>(tile_b + TileB::shared_offset(k + lane % 16, chunk), words);
          b[j] = {words[0], words[1]};
          b[j + 1] = {words[2], words[3]};
        }
      }
      sums.add(a, b);
    }
  }

#pragma unroll
  for (int i = 0; i < Accumulators::kM; ++i) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int m = first_row + Warps::first_row() + i * 16 + half * 8 + lane / 4;
      if (m >= p.group_outputs) continue;
      float* const line = p.partial + (split_number * p.outputs +
                                       static_cast<int64_t>(group) * p.group_outputs + m) *
                                          p.columns;
#pragma unroll
      for (int j = 0; j < Accumulators::kN; ++j) {
        const int n = first_column + Warps::first_column() + j * 8 + lane % 4 * 2;
        if (n >= p.columns) continue;
        const float pair[2] = {sums.sums[i][j].values[half * 2],
                               sums.sums[i][j].values[half * 2 + 1]};
        store<2>(pair, line + n);
      }
    }
  }
}

// The second pass: dw[o][c][tap] from the splits of [o][tap][c].
template <typename T>
__global__ void __launch_bounds__(kThreads)
    reduce_split_k_nhwc(const float* __restrict__ partial, T* __restrict__ dw, int64_t count,
                        int64_t splits, uint32_t group_channels, uint32_t taps,
                        conv_cuda::Divider by_group_channels, conv_cuda::Divider by_taps) {
  const int64_t at = global_thread();
  if (at >= count) return;
  float sum = 0;
  for (int64_t split = 0; split < splits; ++split) sum += partial[split * count + at];
  uint32_t channel, tap;
  const int64_t output =
      by_taps.divmod(by_group_channels.divmod(static_cast<uint32_t>(at), channel), tap);
  dw[(output * group_channels + channel) * taps + tap] = static_cast<T>(sum);
}

template <typename Format, int rows>
void launch_weight_grad(const WeightGradArguments<typename Format::Element>& p, int64_t splits,
                        cudaStream_t stream) {
  constexpr int kBytes = kStages * (SharedPixelTile<Format, rows>::kBytes +
                                    SharedPixelTile<Format, kWeightGradColumns>::kBytes);
  const dim3 grid(static_cast<unsigned>(ceil_div(p.columns, kWeightGradColumns)),
                  static_cast<unsigned>(ceil_div(p.group_outputs, rows)),
                  static_cast<unsigned>(p.groups * splits));
  auto kernel = weight_grad_gemm<Format, rows>;
  CAFFE_COMPAT_LAUNCH_DYNAMIC(kernel, grid, kThreads, kBytes, stream, p);
}

}  // namespace nhwc_cuda
}  // namespace caffe_compat
