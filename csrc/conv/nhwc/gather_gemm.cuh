// Output and input gradient of a channels_last convolution: one implicit matrix product.
//
//   y[pixel, o] = sum over taps and channels c of x[pixel under tap, c] * w[o, tap, c]
//
// for each group, with w in rows of (tap, channel).  The input gradient is the same product of dy
// with the kernel rotated by 180 degrees (repack_weights), where dy's pixels lie `spread` = stride
// apart with zeros between.
//
//   rows of the product      pixels of y, 128 in a tile
//   columns                  outputs of a group, 128 or 64 in a tile
//   depth                    (tap, channel), 64 bytes of it in a step
//
// A block gathers the x under its pixels step by step, through a pipeline of kStages tiles that
// asynchronous copies fill in swizzled shared memory; warps multiply the oldest stage meanwhile:
//
//   step              0   1   2   3   4 ...
//   copied    0 1 2   3   4   5   6   7         tile 4 takes the place of tile 0, 5 that of 1
//   multiplied        0   1   2   3   4
#pragma once

#include "common/async_copy.cuh"
#include "conv/conv.h"
#include "conv/divider.cuh"
#include "conv/nhwc/warp_accumulators.cuh"

namespace caffe_compat {
namespace nhwc_cuda {

// The convolution that the product computes: y from x, or dx (here y) from dy (here x).  Pixels are
// counted in 32 bits, elements in 64 (nhwc_fits).
struct GatherSizes {
  int64_t channels, outputs;              // of x and y, all groups
  int32_t group_channels, group_outputs;  // of x and y
  int32_t height, width;                  // of x
  int32_t step_h, step_w;  // rows and columns of spread-out x between neighbours in y
  int32_t pad_h, pad_w, dilation_h, dilation_w;
  uint32_t pixels, depth;  // rows of the product; taps * group_channels
  conv_cuda::Divider by_out_pixels, by_out_width, by_kernel_w, by_group_channels, by_spread_h,
      by_spread_w;
  bool spread;

  static GatherSizes output(const ConvSizes& s) {
    return {.channels = s.channels,
            .outputs = s.outputs,
            .group_channels = static_cast<int32_t>(s.group_channels()),
            .group_outputs = static_cast<int32_t>(s.group_outputs()),
            .height = static_cast<int32_t>(s.height),
            .width = static_cast<int32_t>(s.width),
            .step_h = static_cast<int32_t>(s.stride_h),
            .step_w = static_cast<int32_t>(s.stride_w),
            .pad_h = static_cast<int32_t>(s.pad_h),
            .pad_w = static_cast<int32_t>(s.pad_w),
            .dilation_h = static_cast<int32_t>(s.dilation_h),
            .dilation_w = static_cast<int32_t>(s.dilation_w),
            .pixels = static_cast<uint32_t>(s.batch * s.out_pixels()),
            .depth = static_cast<uint32_t>(s.depth()),
            .by_out_pixels = conv_cuda::Divider(s.out_pixels()),
            .by_out_width = conv_cuda::Divider(s.out_width),
            .by_kernel_w = conv_cuda::Divider(s.kernel_w),
            .by_group_channels = conv_cuda::Divider(s.group_channels()),
            .by_spread_h = conv_cuda::Divider(1),
            .by_spread_w = conv_cuda::Divider(1),
            .spread = false};
  }

  static GatherSizes input_grad(const ConvSizes& s) {
    return {.channels = s.outputs,
            .outputs = s.channels,
            .group_channels = static_cast<int32_t>(s.group_outputs()),
            .group_outputs = static_cast<int32_t>(s.group_channels()),
            .height = static_cast<int32_t>(s.out_height),
            .width = static_cast<int32_t>(s.out_width),
            .step_h = 1,
            .step_w = 1,
            .pad_h = static_cast<int32_t>(s.dilation_h * (s.kernel_h - 1) - s.pad_h),
            .pad_w = static_cast<int32_t>(s.dilation_w * (s.kernel_w - 1) - s.pad_w),
            .dilation_h = static_cast<int32_t>(s.dilation_h),
            .dilation_w = static_cast<int32_t>(s.dilation_w),
            .pixels = static_cast<uint32_t>(s.batch * s.pixels()),
            .depth = static_cast<uint32_t>(s.group_outputs() * s.taps()),
            .by_out_pixels = conv_cuda::Divider(s.pixels()),
            .by_out_width = conv_cuda::Divider(s.width),
            .by_kernel_w = conv_cuda::Divider(s.kernel_w),
            .by_group_channels = conv_cuda::Divider(s.group_outputs()),
            .by_spread_h = conv_cuda::Divider(s.stride_h),
            .by_spread_w = conv_cuda::Divider(s.stride_w),
            .spread = s.stride_h != 1 || s.stride_w != 1};
  }
};

// What one pixel of y reads in x.
struct ReceptiveField {
  static constexpr int32_t kFarOutside = -(1 << 30);
  int32_t top, left;  // of the first tap
  int64_t image;      // element offset of the image's first pixel

  __device__ ReceptiveField(const GatherSizes& g, uint32_t pixel) {
    uint32_t rest, column;
    const int64_t n = g.by_out_pixels.divmod(pixel, rest);
    const uint32_t row = g.by_out_width.divmod(rest, column);
    top = static_cast<int32_t>(row) * g.step_h - g.pad_h;
    left = static_cast<int32_t>(column) * g.step_w - g.pad_w;
    image = n * g.height * g.width * g.channels;
  }
  // Of a row of the tile beyond the last pixel: so far off that no tap is inside.
  __device__ ReceptiveField() : top(kFarOutside), left(kFarOutside), image(0) {}

  // The element offset of the pixel that lies (down, across) from the first tap; false outside of
  // x.
  __device__ bool find(const GatherSizes& g, int32_t down, int32_t across, int64_t& offset) const {
    uint32_t row = static_cast<uint32_t>(top + down), column = static_cast<uint32_t>(left + across);
    bool inside = true;
    if (g.spread) {
      inside = static_cast<int32_t>(row) >= 0 && static_cast<int32_t>(column) >= 0;
      uint32_t between_rows, between_columns;
      row = g.by_spread_h.divmod(inside ? row : 0, between_rows);
      column = g.by_spread_w.divmod(inside ? column : 0, between_columns);
      inside = inside && between_rows == 0 && between_columns == 0;
    }
    inside =
        inside && row < static_cast<uint32_t>(g.height) && column < static_cast<uint32_t>(g.width);
    // Unsigned, because a row outside may be a large number.
    const uint64_t pixel = uint64_t{row} * static_cast<uint32_t>(g.width) + column;
    offset = image + static_cast<int64_t>(pixel * static_cast<uint64_t>(g.channels));
    return inside;
  }
};

// A tile in shared memory: rows of four chunks along k, swizzled: a chunk moves within its row, so
// that ldmatrix finds one chunk of eight rows in eight different bank groups of 16 bytes.  Two rows
// fill all banks; of A, where it reads neighbouring rows:
//
//     bank group     0 1 2 3   4 5 6 7
//     rows 0 and 1   0 1 2 3 | 0 1 2 3      the numbers are chunks: chunk 0 of the eight
//     rows 2 and 3   1 0 3 2 | 1 0 3 2      rows is found in all eight bank groups, and so
//     rows 4 and 5   2 3 0 1 | 2 3 0 1      are chunks 1, 2 and 3
//     rows 6 and 7   3 2 1 0 | 3 2 1 0
//
// Of B it reads the rows that interleaved_column() below states: 0, 1, 8, 9, 16, 17, 24 and 25, or
// these plus 2, 4 or 6.  They take the four lines of the picture in turn, two by two.
constexpr int kRowChunks = 4, kRowBytes = kRowChunks * kChunkBytes;

__device__ __forceinline__ int shared_offset_a(int row, int chunk) {
  return row * kRowBytes + (chunk ^ ((row >> 1) & 3)) * kChunkBytes;
}
__device__ __forceinline__ int shared_offset_b(int row, int chunk) {
  return row * kRowBytes + (chunk ^ (((row >> 1) ^ (row >> 3)) & 3)) * kChunkBytes;
}

// A warp has 32 columns of the product, as four fragments of eight.  Column `column` of fragment j
// is this one of the 32, so that each lane sums eight neighbours, which it writes with 16-byte
// stores:
//
//     columns      0  1  2  3  4  5  6  7    8  9 10 ...
//     fragment     0  0  1  1  2  2  3  3    0  0  1
//     lane % 4     0  0  0  0  0  0  0  0    1  1  1
__device__ __forceinline__ int interleaved_column(int j, int column) {
  return column / 2 * 8 + j * 2 + column % 2;
}

template <typename T>
struct GatherArguments {
  const T *x, *weight, *bias;  // bias may be null
  T* y;
  bool relu;
  GatherSizes g;
};

constexpr int kRows = 128;  // pixels of a tile

template <int columns>
constexpr int kGatherBytes = kStages * (kRows + columns) * kRowBytes;

template <typename Format, int columns>
__global__ void __launch_bounds__(kThreads, 2)
    gather_gemm(GatherArguments<typename Format::Element> p) {
  using T = typename Format::Element;
  using Warps = WarpGrid<kRows, columns>;
  using Accumulators = WarpAccumulators<Format, Warps::kWarpRows>;
  constexpr int kPerChunk = Format::kPerChunk, kStepDepth = kRowChunks * kPerChunk;
  constexpr int kRowsPerPass = kThreads / kRowChunks;
  constexpr int kPassesA = kRows / kRowsPerPass, kPassesB = columns / kRowsPerPass;
  constexpr int kStageBytes = (kRows + columns) * kRowBytes;
  CAFFE_COMPAT_DYNAMIC_SHARED(shared);

  const GatherSizes& g = p.g;
  const uint32_t first_pixel = blockIdx.x * kRows;
  const int first_column = blockIdx.y * columns, group = blockIdx.z;

  // What this thread copies: chunk copy_chunk of some rows of each operand.
  const int copy_chunk = threadIdx.x % kRowChunks, copy_row = threadIdx.x / kRowChunks;
  ReceptiveField fields[kPassesA];
#pragma unroll
  for (int i = 0; i < kPassesA; ++i) {
    const uint32_t pixel = first_pixel + copy_row + i * kRowsPerPass;
    if (pixel < g.pixels) fields[i] = ReceptiveField(g, pixel);
  }
  const T* const x = p.x + static_cast<int64_t>(group) * g.group_channels;
  const T* const weight =
      p.weight + (static_cast<int64_t>(group) * g.group_outputs + first_column) * g.depth;

  const uint32_t steps = (g.depth + kStepDepth - 1) / kStepDepth;
  const auto fetch = [&](uint32_t step) {
    if (step < steps) {
      char* const stage = shared + step % kStages * kStageBytes;
      const uint32_t k = step * kStepDepth + copy_chunk * kPerChunk;
      const bool deep = k < g.depth;
      uint32_t channel, kw;
      const uint32_t kh = g.by_kernel_w.divmod(g.by_group_channels.divmod(k, channel), kw);
      const int32_t down = static_cast<int32_t>(kh) * g.dilation_h;
      const int32_t across = static_cast<int32_t>(kw) * g.dilation_w;
#pragma unroll
      for (int i = 0; i < kPassesA; ++i) {
        int64_t offset;
        const bool inside = fields[i].find(g, down, across, offset) && deep;
        copy_16_bytes(stage + shared_offset_a(copy_row + i * kRowsPerPass, copy_chunk),
                      x + (inside ? offset + channel : 0), inside);
      }
#pragma unroll
      for (int i = 0; i < kPassesB; ++i) {
        const int row = copy_row + i * kRowsPerPass;
        const bool inside = first_column + row < g.group_outputs && deep;
        copy_16_bytes(stage + kRows * kRowBytes + shared_offset_b(row, copy_chunk),
                      weight + (inside ? static_cast<int64_t>(row) * g.depth + k : 0), inside);
      }
    }
    commit_copies();
  };

  const int lane = threadIdx.x % 32;
  const int row_a = Warps::first_row() + lane % 16, half_a = lane / 16;
  const int j_b = lane / 16, half_b = lane / 8 % 2;
  Accumulators sums;
#pragma unroll
  for (int step = 0; step < kStages - 1; ++step) fetch(step);
  for (uint32_t step = 0; step < steps; ++step) {
    wait_for_copies<kStages - 2>();
    // Stage `step` has arrived for everybody, and everybody has multiplied the one before it, which
    // is filled next.
    __syncthreads();
    fetch(step + kStages - 1);
    const char* const stage = shared + step % kStages * kStageBytes;
#pragma unroll
    for (int chunk = 0; chunk < kRowChunks; chunk += 2) {
      FragmentA a[Accumulators::kM];
      FragmentB b[Accumulators::kN];
#pragma unroll
      for (int i = 0; i < Accumulators::kM; ++i) {
        load_matrices<false>(stage + shared_offset_a(row_a + i * 16, chunk + half_a), a[i].words);
      }
#pragma unroll
      for (int j = 0; j < Accumulators::kN; j += 2) {
        uint32_t words[4];
        const int row = Warps::first_column() + interleaved_column(j + j_b, lane % 8);
        load_matrices<false>(stage + kRows * kRowBytes + shared_offset_b(row, chunk + half_b),
                             words);
        b[j] = {words[0], words[1]};
        b[j + 1] = {words[2], words[3]};
      }
      sums.add(a, b);
    }
  }

  const int column = first_column + Warps::first_column() + lane % 4 * 8;
  const int64_t output = static_cast<int64_t>(group) * g.group_outputs + column;
  float bias[8] = {};
  if (p.bias != nullptr) {
#pragma unroll
    for (int v = 0; v < 8; ++v) {
      if (column + v < g.group_outputs) bias[v] = static_cast<float>(p.bias[output + v]);
    }
  }
#pragma unroll
  for (int i = 0; i < Accumulators::kM; ++i) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const uint32_t pixel = first_pixel + Warps::first_row() + i * 16 + half * 8 + lane / 4;
      if (pixel >= g.pixels) continue;
      T* const y = p.y + pixel * g.outputs + output;
#pragma unroll
      for (int first = 0; first < 8; first += kPerChunk) {
        if (column + first >= g.group_outputs) continue;
        float values[kPerChunk];
#pragma unroll
        for (int v = 0; v < kPerChunk; ++v) {
          const int at = first + v;
          const float sum = sums.sums[i][at / 2].values[half * 2 + at % 2] + bias[at];
          values[v] = p.relu && sum < 0 ? 0.f : sum;
        }
        store<kPerChunk>(values, y + first);
      }
    }
  }
}

template <typename Format, int columns>
void launch_gather(const GatherArguments<typename Format::Element>& p, int64_t groups,
                   cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(ceil_div(p.g.pixels, kRows)),
                  static_cast<unsigned>(ceil_div(p.g.group_outputs, columns)),
                  static_cast<unsigned>(groups));
  auto kernel = gather_gemm<Format, columns>;
  CAFFE_COMPAT_LAUNCH_DYNAMIC(kernel, grid, kThreads, kGatherBytes<columns>, stream, p);
}

// The wide tile where it computes no more columns than the narrow one.  Split numbers take twice
// the registers, so they have the narrow one only.
template <typename Format>
void launch_fitting_gather(const GatherArguments<typename Format::Element>& p, int64_t groups,
                           cudaStream_t stream) {
  if constexpr (!Format::kSplit) {
    if (ceil_div(p.g.group_outputs, 64) % 2 == 0)
      return launch_gather<Format, 128>(p, groups, stream);
  }
  launch_gather<Format, 64>(p, groups, stream);
}

}  // namespace nhwc_cuda
}  // namespace caffe_compat
