// The weight gradient of the NCHW kernels, as a split-K product: its depth is all output pixels of
// all images, far longer than its result is large.  Blocks share the images out; reduce_split_k
// adds what they found, in the order of the images.
#pragma once

#include "conv/gemm_operands.cuh"

namespace caffe_compat {
namespace conv_cuda {

// Each of `splits` sums a share of the images into its own slice of `partial`, which has the shape
// (split, group, output, column).
template <typename T>
struct WeightGradGemm {
  using Element = T;
  using A = compute_t<T>;
  static constexpr bool kDepthFirstB = true;
  const T *dy, *x;
  A* partial;
  DividedConvSizes s;
  int64_t rows, columns, depth, splits;

  WeightGradGemm(const T* dy, const T* x, A* partial, const ConvSizes& sizes, int64_t splits)
      : dy(dy),
        x(x),
        partial(partial),
        s(sizes),
        rows(s.group_outputs()),
        columns(s.depth()),
        depth(s.out_pixels()),
        splits(splits) {}

  struct ColumnOrigin {
    int64_t plane;
    int32_t top, left;
  };

  __device__ int64_t split() const { return blockIdx.z / s.groups; }
  __device__ void rounds(int64_t& first, int64_t& last) const {
    first = s.batch * split() / splits;
    last = s.batch * (split() + 1) / splits;
  }
  __device__ int64_t row_stride() const { return depth; }
  __device__ const T* row(int64_t group, int64_t m) const {
    return dy + (group * rows + m) * depth;
  }
  __device__ ColumnOrigin column_origin(int64_t group, int64_t n) const {
    uint32_t tap, kw;
    const uint32_t channel = s.by_taps.divmod(static_cast<uint32_t>(n), tap),
                   kh = s.by_kernel_w.divmod(tap, kw);
    return {(group * s.group_channels() + channel) * s.pixels(),
            static_cast<int32_t>(kh * s.dilation_h - s.pad_h),
            static_cast<int32_t>(kw * s.dilation_w - s.pad_w)};
  }
  __device__ A load_a(const T* row, int64_t image, uint32_t k) const {
    return static_cast<A>(row[image * s.outputs * depth + k]);
  }
  __device__ A load_b(const ColumnOrigin& origin, int64_t image, uint32_t k) const {
    uint32_t out_column;
    const uint32_t out_row = s.by_out_width.divmod(k, out_column);
    const T* plane = x + image * s.channels * s.pixels() + origin.plane;
    return load_pixel(plane, s, static_cast<int32_t>(out_row * s.stride_h) + origin.top,
                      static_cast<int32_t>(out_column * s.stride_w) + origin.left, 0, 0);
  }
  __device__ void store(int64_t group, int64_t m, int64_t n, A sum) const {
    partial[((split() * s.groups + group) * rows + m) * columns + n] = sum;
  }
};

template <typename T, typename A>
__global__ void __launch_bounds__(kThreads)
    reduce_split_k(const A* __restrict__ partial, T* __restrict__ total, int64_t count,
                   int64_t splits) {
  const int64_t at = global_thread();
  if (at >= count) return;
  A sum = 0;
  for (int64_t split = 0; split < splits; ++split) sum += partial[split * count + at];
  total[at] = static_cast<T>(sum);
}

}  // namespace conv_cuda

// How many splits: enough to fill a large GPU with blocks.  A function of the sizes only,
// so that the order of the sum, and with it the result, is the same on every GPU.
inline int64_t conv_weight_grad_splits(const ConvSizes& s) {
  const int64_t tile = s.group_outputs() > 64 && s.depth() > 64 ? 128 : 64;
  const int64_t blocks = ceil_div(s.group_outputs(), tile) * ceil_div(s.depth(), tile) * s.groups;
  const int64_t wanted = ceil_div(kFullGridBlocks, blocks);
  const int64_t most = s.batch < kMostGridYZ / s.groups ? s.batch : kMostGridYZ / s.groups;
  return wanted < most ? wanted : (most > 1 ? most : 1);
}

}  // namespace caffe_compat
