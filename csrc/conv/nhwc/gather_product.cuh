// Output and input gradient of a channels_last convolution: one implicit matrix product.
//
//   y[pixel, o] = sum over taps and channels c of x[pixel under tap, c] * w[o, tap, c]
//
// for each group, with w in rows of (tap, channel).  The input gradient is the same product of dy
// with the kernel turned around (relay_weights), where dy's pixels lie `spread` = stride apart with
// zeros between.  Rows of the product are pixels of y, so a block gathers rows of x, 64 bytes of
// depth at a time, through a pipeline of asynchronous copies into swizzled shared memory.
#pragma once

#include "common/async_copy.cuh"
#include "conv/conv.h"
#include "conv/divider.cuh"
#include "conv/nhwc/warp_sums.cuh"

namespace caffe_compat {
namespace nhwc_cuda {

// The convolution that the product computes.  Pixels are counted in 32 bits, elements in 64
// (nhwc_fits).
struct Gather {
  int64_t channels, outputs;              // of x and y, all groups
  int32_t group_channels, group_outputs;  // of x and y
  int32_t height, width;                  // of x
  int32_t step_h, step_w;                 // pixels of spread-out x between neighbours in y
  int32_t pad_h, pad_w, dilation_h, dilation_w;
  uint32_t pixels, depth;  // rows of the product; taps * group_channels
  conv_cuda::Divider by_out_pixels, by_out_width, by_kernel_w, by_group_channels, by_spread_h,
      by_spread_w;
  bool spread;

  static Gather output(const ConvSizes& s) {
    return {s.channels,
            s.outputs,
            static_cast<int32_t>(s.group_channels()),
            static_cast<int32_t>(s.group_outputs()),
            static_cast<int32_t>(s.height),
            static_cast<int32_t>(s.width),
            static_cast<int32_t>(s.stride_h),
            static_cast<int32_t>(s.stride_w),
            static_cast<int32_t>(s.pad_h),
            static_cast<int32_t>(s.pad_w),
            static_cast<int32_t>(s.dilation_h),
            static_cast<int32_t>(s.dilation_w),
            static_cast<uint32_t>(s.batch * s.out_pixels()),
            static_cast<uint32_t>(s.depth()),
            conv_cuda::Divider(s.out_pixels()),
            conv_cuda::Divider(s.out_width),
            conv_cuda::Divider(s.kernel_w),
            conv_cuda::Divider(s.group_channels()),
            conv_cuda::Divider(1),
            conv_cuda::Divider(1),
            false};
  }

  static Gather input_grad(const ConvSizes& s) {
    return {s.outputs,
            s.channels,
            static_cast<int32_t>(s.group_outputs()),
            static_cast<int32_t>(s.group_channels()),
            static_cast<int32_t>(s.out_height),
            static_cast<int32_t>(s.out_width),
            1,
            1,
            static_cast<int32_t>(s.dilation_h * (s.kernel_h - 1) - s.pad_h),
            static_cast<int32_t>(s.dilation_w * (s.kernel_w - 1) - s.pad_w),
            static_cast<int32_t>(s.dilation_h),
            static_cast<int32_t>(s.dilation_w),
            static_cast<uint32_t>(s.batch * s.pixels()),
            static_cast<uint32_t>(s.group_outputs() * s.taps()),
            conv_cuda::Divider(s.pixels()),
            conv_cuda::Divider(s.width),
            conv_cuda::Divider(s.kernel_w),
            conv_cuda::Divider(s.group_outputs()),
            conv_cuda::Divider(s.stride_h),
            conv_cuda::Divider(s.stride_w),
            s.stride_h != 1 || s.stride_w != 1};
  }
};

// Where the window of one pixel of y begins in x.
struct Window {
  int32_t top, left;
  int64_t image;  // element offset of the image's first pixel

  __device__ Window(const Gather& g, uint32_t pixel) {
    uint32_t rest, column;
    const int64_t n = g.by_out_pixels.split(pixel, rest);
    const uint32_t row = g.by_out_width.split(rest, column);
    top = static_cast<int32_t>(row) * g.step_h - g.pad_h;
    left = static_cast<int32_t>(column) * g.step_w - g.pad_w;
    image = n * g.height * g.width * g.channels;
  }
  // A row beyond the last pixel: nothing of it is inside.
  __device__ Window() : top(-(1 << 30)), left(-(1 << 30)), image(0) {}

  // The element offset of the pixel at (down, across) from the window's corner; false outside of x.
  __device__ bool find(const Gather& g, int32_t down, int32_t across, int64_t& offset) const {
    uint32_t row = static_cast<uint32_t>(top + down), column = static_cast<uint32_t>(left + across);
    bool inside = true;
    if (g.spread) {
      inside = static_cast<int32_t>(row) >= 0 && static_cast<int32_t>(column) >= 0;
      uint32_t between_rows, between_columns;
      row = g.by_spread_h.split(inside ? row : 0, between_rows);
      column = g.by_spread_w.split(inside ? column : 0, between_columns);
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

// A tile in shared memory: rows of four chunks along k.  A chunk's place in its row depends on the
// row such that eight rows that are read together lie in different banks: eight neighbours in A; in
// B those of kColumn below, for which the rows differ in bits 0, 3 and 4.
constexpr int kRowChunks = 4, kRowBytes = kRowChunks * kChunkBytes;

__device__ __forceinline__ int place_a(int row, int chunk) {
  return row * kRowBytes + (chunk ^ ((row >> 1) & 3)) * kChunkBytes;
}
__device__ __forceinline__ int place_b(int row, int chunk) {
  return row * kRowBytes + (chunk ^ (((row >> 1) ^ (row >> 3)) & 3)) * kChunkBytes;
}

// Column `column` of a warp's fragment j is this one of its 32: so each lane sums 8 neighbours, and
// writes them as one access.
__device__ __forceinline__ int interleaved_column(int j, int column) {
  return column / 2 * 8 + j * 2 + column % 2;
}

template <typename T>
struct GatherArguments {
  const T *x, *weight, *bias;  // bias may be null
  T* y;
  bool relu;
  Gather g;
};

constexpr int kRows = 128;  // pixels of a tile

template <int columns>
constexpr int kGatherBytes = kStages * (kRows + columns) * kRowBytes;

template <typename Format, int columns>
__global__ void __launch_bounds__(kThreads, 2)
    gather_product(GatherArguments<typename Format::Element> p) {
  using T = typename Format::Element;
  using Warps = WarpGrid<kRows, columns>;
  using Sums = WarpSums<Format, Warps::kWarpRows>;
  constexpr int kPerChunk = Format::kPerChunk, kStepDepth = kRowChunks * kPerChunk;
  constexpr int kRowsPerPass = kThreads / kRowChunks;
  constexpr int kPassesA = kRows / kRowsPerPass, kPassesB = columns / kRowsPerPass;
  constexpr int kStageBytes = (kRows + columns) * kRowBytes;
  CAFFE_COMPAT_DYNAMIC_SHARED(shared);

  const Gather& g = p.g;
  const uint32_t first_pixel = blockIdx.x * kRows;
  const int first_column = blockIdx.y * columns, group = blockIdx.z;

  // What this thread copies: one chunk column of some rows of each operand.
  const int copy_chunk = threadIdx.x % kRowChunks, copy_row = threadIdx.x / kRowChunks;
  Window windows[kPassesA];
#pragma unroll
  for (int i = 0; i < kPassesA; ++i) {
    const uint32_t pixel = first_pixel + copy_row + i * kRowsPerPass;
    if (pixel < g.pixels) windows[i] = Window(g, pixel);
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
      const uint32_t kh = g.by_kernel_w.split(g.by_group_channels.split(k, channel), kw);
      const int32_t down = static_cast<int32_t>(kh) * g.dilation_h;
      const int32_t across = static_cast<int32_t>(kw) * g.dilation_w;
#pragma unroll
      for (int i = 0; i < kPassesA; ++i) {
        int64_t offset;
        const bool inside = windows[i].find(g, down, across, offset) && deep;
        copy_16_bytes(stage + place_a(copy_row + i * kRowsPerPass, copy_chunk),
                      x + (inside ? offset + channel : 0), inside);
      }
#pragma unroll
      for (int i = 0; i < kPassesB; ++i) {
        const int row = copy_row + i * kRowsPerPass;
        const bool inside = first_column + row < g.group_outputs && deep;
        copy_16_bytes(stage + kRows * kRowBytes + place_b(row, copy_chunk),
                      weight + (inside ? static_cast<int64_t>(row) * g.depth + k : 0), inside);
      }
    }
    commit_copies();
  };

  const int lane = threadIdx.x % 32;
  const int row_a = Warps::first_row() + lane % 16, half_a = lane / 16;
  const int j_b = lane / 16, half_b = lane / 8 % 2;
  Sums sums;
#pragma unroll
  for (int step = 0; step < kStages - 1; ++step) fetch(step);
  for (uint32_t step = 0; step < steps; ++step) {
    wait_for_copies<kStages - 2>();
    // Also: everybody has multiplied the stage that is filled next.
    __syncthreads();
    fetch(step + kStages - 1);
    const char* const stage = shared + step % kStages * kStageBytes;
#pragma unroll
    for (int chunk = 0; chunk < kRowChunks; chunk += 2) {
      FragmentA a[Sums::kM];
      FragmentB b[Sums::kN];
#pragma unroll
      for (int i = 0; i < Sums::kM; ++i) {
        load_matrices<false>(stage + place_a(row_a + i * 16, chunk + half_a), a[i].words);
      }
#pragma unroll
      for (int j = 0; j < Sums::kN; j += 2) {
        uint32_t words[4];
        const int row = Warps::first_column() + interleaved_column(j + j_b, lane % 8);
        load_matrices<false>(stage + kRows * kRowBytes + place_b(row, chunk + half_b), words);
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
  for (int i = 0; i < Sums::kM; ++i) {
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
  auto kernel = gather_product<Format, columns>;
  CAFFE_COMPAT_LAUNCH_DYNAMIC(kernel, grid, kThreads, kGatherBytes<columns>, stream, p);
}

// The wide tile where it computes no more columns than the narrow one.  Split numbers take twice
// the registers, so they have the narrow one only.
template <typename Format>
void gather(const GatherArguments<typename Format::Element>& p, int64_t groups,
            cudaStream_t stream) {
  if constexpr (!Format::kSplit) {
    if (ceil_div(p.g.group_outputs, 64) % 2 == 0)
      return launch_gather<Format, 128>(p, groups, stream);
  }
  launch_gather<Format, 64>(p, groups, stream);
}

}  // namespace nhwc_cuda
}  // namespace caffe_compat
