// What the products of the NCHW kernels read and write: output and input gradient here, the weight
// gradient in weight_grad_product.cuh.
#pragma once

#include "common/cuda_utils.cuh"
#include "conv/conv.h"
#include "conv/divider.cuh"

namespace caffe_compat {
namespace conv_cuda {

// A product has operands `a` (m, k) and `b` (k, n); k runs over `depth` in each of `rounds()`.  In
// `a` rows are evenly spaced, `row_stride` apart.  A thread loads elements of few columns n of `b`,
// so what depends on n is found once (Spot). Addresses are 64-bit; k, n within an image and
// coordinates fit into 32 bits, which check_conv_limits makes sure of.

struct Sizes : ConvSizes {
  Divider by_taps, by_kernel_w, by_out_width;

  explicit Sizes(const ConvSizes& s)
      : ConvSizes(s), by_taps(s.taps()), by_kernel_w(s.kernel_w), by_out_width(s.out_width) {}
};

// The element of a plane under tap (kh, kw) of a window at (top, left); zero in the padding.
template <typename T>
__device__ __forceinline__ compute_t<T> load_pixel(const T* plane, const Sizes& s, int32_t top,
                                                   int32_t left, uint32_t kh, uint32_t kw) {
  const int32_t row = top + static_cast<int32_t>(kh * s.dilation_h);
  const int32_t column = left + static_cast<int32_t>(kw * s.dilation_w);
  const bool inside = row >= 0 && row < s.height && column >= 0 && column < s.width;
  return inside ? static_cast<compute_t<T>>(plane[row * s.width + column]) : compute_t<T>(0);
}

template <typename T>
struct OutputProduct {
  using Element = T;
  using A = compute_t<T>;
  static constexpr bool kDepthFirstB =
      false;  // neighbouring threads take neighbouring k, or neighbouring n?
  const T *x, *weight, *bias;
  T* y;
  bool relu;
  Sizes s;
  int64_t rows, columns, depth;

  OutputProduct(const T* x, const T* weight, const T* bias, T* y, const ConvSizes& sizes, bool relu)
      : x(x),
        weight(weight),
        bias(bias),
        y(y),
        relu(relu),
        s(sizes),
        rows(s.group_outputs()),
        columns(s.batch * s.out_pixels()),
        depth(s.depth()) {}

  struct Spot {
    const T* image;
    int32_t top, left;
  };

  __device__ void rounds(int64_t& first, int64_t& last) const { first = 0, last = 1; }
  __device__ int64_t row_stride() const { return depth; }
  __device__ const T* row(int64_t group, int64_t m) const {
    return weight + (group * rows + m) * depth;
  }
  __device__ Spot spot(int64_t group, int64_t n) const {
    const int64_t image = n / s.out_pixels();
    uint32_t column;
    const uint32_t row = s.by_out_width.split(static_cast<uint32_t>(n % s.out_pixels()), column);
    return {x + (image * s.channels + group * s.group_channels()) * s.pixels(),
            static_cast<int32_t>(row * s.stride_h - s.pad_h),
            static_cast<int32_t>(column * s.stride_w - s.pad_w)};
  }
  __device__ A load_a(const T* row, int64_t, uint32_t k) const { return static_cast<A>(row[k]); }
  __device__ A load_b(const Spot& spot, int64_t, uint32_t k) const {
    uint32_t tap, kw;
    const uint32_t channel = s.by_taps.split(k, tap), kh = s.by_kernel_w.split(tap, kw);
    return load_pixel(spot.image + channel * s.pixels(), s, spot.top, spot.left, kh, kw);
  }
  __device__ void store(int64_t group, int64_t m, int64_t n, A sum) const {
    const int64_t image = n / s.out_pixels(), pixel = n % s.out_pixels(), output = group * rows + m;
    if (bias != nullptr) sum += static_cast<A>(bias[output]);
    if (relu && sum < 0) sum = 0;
    y[(image * s.outputs + output) * s.out_pixels() + pixel] = static_cast<T>(sum);
  }
};

template <typename T>
struct InputGradProduct {
  using Element = T;
  using A = compute_t<T>;
  static constexpr bool kDepthFirstB = false;
  const T *dy, *weight;
  T* dx;
  Sizes s;
  Divider by_stride_h, by_stride_w, by_width;
  int64_t rows, columns, depth;

  InputGradProduct(const T* dy, const T* weight, T* dx, const ConvSizes& sizes)
      : dy(dy),
        weight(weight),
        dx(dx),
        s(sizes),
        by_stride_h(s.stride_h),
        by_stride_w(s.stride_w),
        by_width(s.width),
        rows(s.group_channels()),
        columns(s.batch * s.pixels()),
        depth(s.group_outputs() * s.taps()) {}

  struct Spot {
    const T* image;
    int32_t bottom, right;  // padded position of the input pixel
  };

  __device__ void rounds(int64_t& first, int64_t& last) const { first = 0, last = 1; }
  __device__ int64_t row_stride() const { return s.taps(); }
  __device__ const T* row(int64_t group, int64_t m) const {
    return weight + group * s.group_outputs() * s.depth() + m * s.taps();
  }
  __device__ Spot spot(int64_t group, int64_t n) const {
    const int64_t image = n / s.pixels();
    uint32_t column;
    const uint32_t row = by_width.split(static_cast<uint32_t>(n % s.pixels()), column);
    return {dy + (image * s.outputs + group * s.group_outputs()) * s.out_pixels(),
            static_cast<int32_t>(row + s.pad_h), static_cast<int32_t>(column + s.pad_w)};
  }
  __device__ A load_a(const T* row, int64_t, uint32_t k) const {
    uint32_t tap;
    const int64_t output = s.by_taps.split(k, tap);
    return static_cast<A>(row[output * s.depth() + tap]);
  }
  // The output pixel that has the input pixel under its tap, if there is one.
  __device__ A load_b(const Spot& spot, int64_t, uint32_t k) const {
    uint32_t tap, kw, off_row, off_column;
    const int64_t output = s.by_taps.split(k, tap);
    const uint32_t kh = s.by_kernel_w.split(tap, kw);
    const int32_t down = spot.bottom - static_cast<int32_t>(kh * s.dilation_h);
    const int32_t across = spot.right - static_cast<int32_t>(kw * s.dilation_w);
    if (down < 0 || across < 0) return A(0);
    const int64_t row = by_stride_h.split(static_cast<uint32_t>(down), off_row);
    const int64_t column = by_stride_w.split(static_cast<uint32_t>(across), off_column);
    const bool hit = off_row == 0 && off_column == 0 && row < s.out_height && column < s.out_width;
    return hit ? static_cast<A>(spot.image[output * s.out_pixels() + row * s.out_width + column])
               : A(0);
  }
  __device__ void store(int64_t group, int64_t m, int64_t n, A sum) const {
    const int64_t image = n / s.pixels(), pixel = n % s.pixels();
    dx[(image * s.channels + group * rows + m) * s.pixels() + pixel] = static_cast<T>(sum);
  }
};

}  // namespace conv_cuda

}  // namespace caffe_compat
