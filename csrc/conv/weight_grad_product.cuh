// The weight gradient of the NCHW kernels: what its product reads and writes, and the second pass.
#pragma once

#include "conv/products.cuh"

namespace caffe_compat {
namespace conv_cuda {

// Each of `parts` sums a share of the images into its own slice of `partial`; add_parts then adds
// the slices.
template <typename T>
struct WeightGradProduct {
  using Element = T;
  using A = compute_t<T>;
  static constexpr bool kDepthFirstB = true;
  const T *dy, *x;
  A* partial;
  Sizes s;
  int64_t rows, columns, depth, parts;

  WeightGradProduct(const T* dy, const T* x, A* partial, const ConvSizes& sizes, int64_t parts)
      : dy(dy),
        x(x),
        partial(partial),
        s(sizes),
        rows(s.group_outputs()),
        columns(s.depth()),
        depth(s.out_pixels()),
        parts(parts) {}

  struct Spot {
    int64_t plane;
    int32_t top, left;
  };

  __device__ int64_t part() const { return blockIdx.z / s.groups; }
  __device__ void rounds(int64_t& first, int64_t& last) const {
    first = s.batch * part() / parts;
    last = s.batch * (part() + 1) / parts;
  }
  __device__ int64_t row_stride() const { return depth; }
  __device__ const T* row(int64_t group, int64_t m) const {
    return dy + (group * rows + m) * depth;
  }
  __device__ Spot spot(int64_t group, int64_t n) const {
    uint32_t tap, kw;
    const uint32_t channel = s.by_taps.split(static_cast<uint32_t>(n), tap),
                   kh = s.by_kernel_w.split(tap, kw);
    return {(group * s.group_channels() + channel) * s.pixels(),
            static_cast<int32_t>(kh * s.dilation_h - s.pad_h),
            static_cast<int32_t>(kw * s.dilation_w - s.pad_w)};
  }
  __device__ A load_a(const T* row, int64_t image, uint32_t k) const {
    return static_cast<A>(row[image * s.outputs * depth + k]);
  }
  __device__ A load_b(const Spot& spot, int64_t image, uint32_t k) const {
    uint32_t out_column;
    const uint32_t out_row = s.by_out_width.split(k, out_column);
    const T* plane = x + image * s.channels * s.pixels() + spot.plane;
    return load_pixel(plane, s, static_cast<int32_t>(out_row * s.stride_h) + spot.top,
                      static_cast<int32_t>(out_column * s.stride_w) + spot.left, 0, 0);
  }
  __device__ void store(int64_t group, int64_t m, int64_t n, A sum) const {
    partial[((part() * s.groups + group) * rows + m) * columns + n] = sum;
  }
};

template <typename T, typename A>
__global__ void __launch_bounds__(kThreads)
    add_parts(const A* __restrict__ partial, T* __restrict__ total, int64_t count, int64_t parts) {
  const int64_t at = global_thread();
  if (at >= count) return;
  A sum = 0;
  for (int64_t part = 0; part < parts; ++part) sum += partial[part * count + at];
  total[at] = static_cast<T>(sum);
}

}  // namespace conv_cuda

// Into how many shares the images are split for the weight gradient: enough for two blocks on each
// of 132 SMs.  A function of the sizes only, so that the sum's order, and with it the result, is
// the same on every GPU.
inline int64_t conv_weight_grad_parts(const ConvSizes& s) {
  const int64_t tile = s.group_outputs() > 64 && s.depth() > 64 ? 128 : 64;
  const int64_t blocks = ceil_div(s.group_outputs(), tile) * ceil_div(s.depth(), tile) * s.groups;
  const int64_t wanted = ceil_div(264, blocks);
  const int64_t most = s.batch < 65535 / s.groups ? s.batch : 65535 / s.groups;
  return wanted < most ? wanted : (most > 1 ? most : 1);
}

}  // namespace caffe_compat
