// What the matrix products of the NCHW kernels read and write: OutputGemm and InputGradGemm here,
// WeightGradGemm in weight_grad_gemm.cuh.
#pragma once

#include "common/cuda_utils.cuh"
#include "conv/conv.h"
#include "conv/divider.cuh"

namespace caffe_compat {
namespace conv_cuda {

// A Gemm states a product of operands a (m, k) and b (k, n), element by element; implicit_gemm does
// the rest.  Its members:
//
//   rounds(first, last)           k runs over `depth` in each of these rounds: of the weight
//                                 gradient the images, of the others a single round
//   row(group, m), row_stride()   row m of a, and the distance to the next
//   column_origin(group, n)       what addresses in column n of b have in common: a thread loads
//                                 elements of few columns, and computes it once
//   load_a(row, round, k)         an element of a
//   load_b(origin, round, k)      an element of b: im2col's column matrix, which is never in memory
//   store(group, m, n, sum)       writes an element of the result
//   kDepthFirstB                  true: neighbours along k lie side by side in memory, so that
//                                 neighbouring threads load them; false: neighbours along n do
//
// Addresses are 64-bit; k, n within an image and coordinates fit into 32 bits, which
// check_conv_limits makes sure of.

struct DividedConvSizes : ConvSizes {
  Divider by_taps, by_kernel_w, by_out_width;

  explicit DividedConvSizes(const ConvSizes& s)
      : ConvSizes(s), by_taps(s.taps()), by_kernel_w(s.kernel_w), by_out_width(s.out_width) {}
};

// The element of a plane that tap (kh, kw) of a kernel at (top, left) reads; zero in the padding.
template <typename T>
__device__ __forceinline__ compute_t<T> load_pixel(const T* plane, const DividedConvSizes& s,
                                                   int32_t top, int32_t left, uint32_t kh,
                                                   uint32_t kw) {
  const int32_t row = top + static_cast<int32_t>(kh * s.dilation_h);
  const int32_t column = left + static_cast<int32_t>(kw * s.dilation_w);
  const bool inside = row >= 0 && row < s.height && column >= 0 && column < s.width;
  return inside ? static_cast<compute_t<T>>(plane[row * s.width + column]) : compute_t<T>(0);
}

template <typename T>
struct OutputGemm {
  using Element = T;
  using A = compute_t<T>;
  static constexpr bool kDepthFirstB = false;
  const T *x, *weight, *bias;
  T* y;
  bool relu;
  DividedConvSizes s;
  int64_t rows, columns, depth;

  OutputGemm(const T* x, const T* weight, const T* bias, T* y, const ConvSizes& sizes, bool relu)
      : x(x),
        weight(weight),
        bias(bias),
        y(y),
        relu(relu),
        s(sizes),
        rows(s.group_outputs()),
        columns(s.batch * s.out_pixels()),
        depth(s.depth()) {}

  struct ColumnOrigin {
    const T* image;
    int32_t top, left;
  };

  __device__ void rounds(int64_t& first, int64_t& last) const { first = 0, last = 1; }
  __device__ int64_t row_stride() const { return depth; }
  __device__ const T* row(int64_t group, int64_t m) const {
    return weight + (group * rows + m) * depth;
  }
  __device__ ColumnOrigin column_origin(int64_t group, int64_t n) const {
    const int64_t image = n / s.out_pixels();
    uint32_t column;
    const uint32_t row = s.by_out_width.divmod(static_cast<uint32_t>(n % s.out_pixels()), column);
    return {x + (image * s.channels + group * s.group_channels()) * s.pixels(),
            static_cast<int32_t>(row * s.stride_h - s.pad_h),
            static_cast<int32_t>(column * s.stride_w - s.pad_w)};
  }
  __device__ A load_a(const T* row, int64_t, uint32_t k) const { return static_cast<A>(row[k]); }
  __device__ A load_b(const ColumnOrigin& origin, int64_t, uint32_t k) const {
    uint32_t tap, kw;
    const uint32_t channel = s.by_taps.divmod(k, tap), kh = s.by_kernel_w.divmod(tap, kw);
    return load_pixel(origin.image + channel * s.pixels(), s, origin.top, origin.left, kh, kw);
  }
  __device__ void store(int64_t group, int64_t m, int64_t n, A sum) const {
    const int64_t image = n / s.out_pixels(), pixel = n % s.out_pixels(), output = group * rows + m;
    if (bias != nullptr) sum += static_cast<A>(bias[output]);
    if (relu && sum < 0) sum = 0;
    y[(image * s.outputs + output) * s.out_pixels() + pixel] = static_cast<T>(sum);
  }
};

template <typename T>
struct InputGradGemm {
  using Element = T;
  using A = compute_t<T>;
  static constexpr bool kDepthFirstB = false;
  const T *dy, *weight;
  T* dx;
  DividedConvSizes s;
  Divider by_stride_h, by_stride_w, by_width;
  int64_t rows, columns, depth;

  InputGradGemm(const T* dy, const T* weight, T* dx, const ConvSizes& sizes)
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

  struct ColumnOrigin {
    const T* image;
    int32_t bottom, right;  // position of the input pixel, the padding counted in
  };

  __device__ void rounds(int64_t& first, int64_t& last) const { first = 0, last = 1; }
  __device__ int64_t row_stride() const { return s.taps(); }
  __device__ const T* row(int64_t group, int64_t m) const {
    return weight + group * s.group_outputs() * s.depth() + m * s.taps();
  }
  __device__ ColumnOrigin column_origin(int64_t group, int64_t n) const {
    const int64_t image = n / s.pixels();
    uint32_t column;
    const uint32_t row = by_width.divmod(static_cast<uint32_t>(n % s.pixels()), column);
    return {dy + (image * s.outputs + group * s.group_outputs()) * s.out_pixels(),
            static_cast<int32_t>(row + s.pad_h), static_cast<int32_t>(column + s.pad_w)};
  }
  __device__ A load_a(const T* row, int64_t, uint32_t k) const {
    uint32_t tap;
    const int64_t output = s.by_taps.divmod(k, tap);
    return static_cast<A>(row[output * s.depth() + tap]);
  }
  // The gradient of the output pixel whose tap k reads this input pixel; zero where there is none.
  __device__ A load_b(const ColumnOrigin& origin, int64_t, uint32_t k) const {
    uint32_t tap, kw, off_row, off_column;
    const int64_t output = s.by_taps.divmod(k, tap);
    const uint32_t kh = s.by_kernel_w.divmod(tap, kw);
    const int32_t down = origin.bottom - static_cast<int32_t>(kh * s.dilation_h);
    const int32_t across = origin.right - static_cast<int32_t>(kw * s.dilation_w);
    if (down < 0 || across < 0) return A(0);
    const int64_t row = by_stride_h.divmod(static_cast<uint32_t>(down), off_row);
    const int64_t column = by_stride_w.divmod(static_cast<uint32_t>(across), off_column);
    const bool hit = off_row == 0 && off_column == 0 && row < s.out_height && column < s.out_width;
    return hit ? static_cast<A>(origin.image[output * s.out_pixels() + row * s.out_width + column])
               : A(0);
  }
  __device__ void store(int64_t group, int64_t m, int64_t n, A sum) const {
    const int64_t image = n / s.pixels(), pixel = n % s.pixels();
    dx[(image * s.channels + group * rows + m) * s.pixels() + pixel] = static_cast<T>(sum);
  }
};

}  // namespace conv_cuda

}  // namespace caffe_compat
