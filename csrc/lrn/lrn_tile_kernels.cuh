// LRN for any window, both regions, both layouts and any exponent: a block owns a box of the array,
// so small that its window sums find in the L1 cache what they read more than once.  The backward
// pass keeps the terms and ratios of all that the box touches in shared memory.
//
//     +---------------+
//     |  +---------+  |   own: what the block computes
//     |  |   own   |  |   touched: own and `reach` elements on both sides along each axis,
//     |  +---------+  |   clipped to the array
//     +---------------+
#pragma once

#include "lrn/lrn_device.cuh"

namespace caffe_compat {
namespace lrn_cuda {

// One axis of the array: neighbours are `stride` elements apart, a window reaches `reach` to each
// side, a block has `tile` of it.
struct Axis {
  int64_t size, stride;
  int reach, tile;

  __host__ __device__ int64_t tiles() const { return (size + tile - 1) / tile; }
  // How much of the axis a block's windows touch, at most.
  __host__ __device__ int64_t touched() const {
    return tile + 2 * int64_t{reach} < size ? tile + 2 * int64_t{reach} : size;
  }
};

// The three axes of an image, fastest first; images are `image` elements apart.
struct BlockBox {
  Axis axes[3];
  int64_t images, image;

  __host__ __device__ int64_t blocks() const {
    return axes[0].tiles() * axes[1].tiles() * axes[2].tiles() * images;
  }
  __host__ __device__ int64_t touched() const {
    return axes[0].touched() * axes[1].touched() * axes[2].touched();
  }
};

// A range of coordinates on the three axes.
struct BoxRange {
  int64_t begin[3];
  int length[3];

  __device__ __forceinline__ int count() const { return length[0] * length[1] * length[2]; }
  __device__ __forceinline__ void find(int number, int64_t (&at)[3]) const {
    at[0] = begin[0] + number % length[0];
    at[1] = begin[1] + number / length[0] % length[1];
    at[2] = begin[2] + number / length[0] / length[1];
  }
  __device__ __forceinline__ int number(const int64_t (&at)[3]) const {
    return static_cast<int>(((at[2] - begin[2]) * length[1] + at[1] - begin[1]) * length[0] +
                            at[0] - begin[0]);
  }
};

// This block's own elements, and all that their windows touch; returns the offset of its image.
__device__ __forceinline__ int64_t find_box(const BlockBox& b, int64_t block, BoxRange& own,
                                            BoxRange& touched) {
#pragma unroll
  for (int i = 0; i < 3; ++i) {
    const Axis& axis = b.axes[i];
    const int64_t first = block % axis.tiles() * axis.tile;
    block /= axis.tiles();
    const int64_t last = first + axis.tile < axis.size ? first + axis.tile : axis.size;
    const int64_t from = first < axis.reach ? 0 : first - axis.reach;
    const int64_t to = axis.size - last < axis.reach ? axis.size : last + axis.reach;
    own.begin[i] = first, own.length[i] = static_cast<int>(last - first);
    touched.begin[i] = from, touched.length[i] = static_cast<int>(to - from);
  }
  return block * b.image;
}

__device__ __forceinline__ int64_t offset_of(const BlockBox& b, const int64_t (&at)[3]) {
  return at[0] * b.axes[0].stride + at[1] * b.axes[1].stride + at[2] * b.axes[2].stride;
}

// add(sum, coordinates) from 0 on over the window around `at`, clipped to the array.
template <typename A, typename Add>
__device__ __forceinline__ A sum_window(const BlockBox& b, const int64_t (&at)[3], const Add& add) {
  int64_t from[3], to[3], i[3];
#pragma unroll
  for (int axis = 0; axis < 3; ++axis) {
    const int reach = b.axes[axis].reach;
    from[axis] = at[axis] < reach ? 0 : at[axis] - reach;
    to[axis] = b.axes[axis].size - 1 - at[axis] < reach ? b.axes[axis].size - 1 : at[axis] + reach;
  }
  A sum = 0;
  for (i[2] = from[2]; i[2] <= to[2]; ++i[2]) {
    for (i[1] = from[1]; i[1] <= to[1]; ++i[1]) {
      for (i[0] = from[0]; i[0] <= to[0]; ++i[0]) sum = add(sum, i);
    }
  }
  return sum;
}

// scale^-beta and 1 / scale of the element at `at`; x is the image.
template <typename T>
__device__ __forceinline__ Powers<compute_t<T>> powers_at(const T* x, const BlockBox& b,
                                                          const int64_t (&at)[3],
                                                          const LrnConstants<compute_t<T>>& c) {
  using A = compute_t<T>;
  const A squares = sum_window<A>(b, at, [&](A sum, const int64_t (&i)[3]) {
    return add_square(sum, static_cast<A>(x[offset_of(b, i)]));
  });
  return powers<false>(scale_from(squares, c), c);
}

// Here and below the 1 in __launch_bounds__ keeps ptxas from taking so few registers that it
// spills.
template <typename T>
__global__ void __launch_bounds__(kThreads, 1)
    lrn_forward_tile(const T* __restrict__ x, T* __restrict__ y, BlockBox b,
                     LrnConstants<compute_t<T>> c) {
  using A = compute_t<T>;
  BoxRange own, touched;
  const int64_t image = find_box(b, blockIdx.x, own, touched);
  for (int number = threadIdx.x; number < own.count(); number += blockDim.x) {
    int64_t at[3];
    own.find(number, at);
    const int64_t offset = image + offset_of(b, at);
    const A raised = powers_at(x + image, b, at, c).raised;
    y[offset] = static_cast<T>(multiply(static_cast<A>(x[offset]), raised));
  }
}

template <typename T>
constexpr int kTouchedMost = 16384 / sizeof(compute_t<T>);

template <typename T>
__global__ void __launch_bounds__(kThreads)
    lrn_backward_tile(const T* __restrict__ dy, const T* __restrict__ x, T* __restrict__ dx,
                      BlockBox b, LrnConstants<compute_t<T>> c) {
  using A = compute_t<T>;
  CAFFE_COMPAT_SHARED(A, terms, kTouchedMost<T>);
  CAFFE_COMPAT_SHARED(A, ratios, kTouchedMost<T>);
  BoxRange own, touched;
  const int64_t image = find_box(b, blockIdx.x, own, touched);
  int64_t at[3];
  for (int number = threadIdx.x; number < touched.count(); number += blockDim.x) {
    touched.find(number, at);
    const Powers<A> p = powers_at(x + image, b, at, c);
    const int64_t offset = image + offset_of(b, at);
    const A term = multiply(static_cast<A>(dy[offset]), p.raised);
    terms[number] = term;
    ratios[number] = ratio_from(term, static_cast<A>(x[offset]), p.inverse);
  }
  __syncthreads();
  for (int number = threadIdx.x; number < own.count(); number += blockDim.x) {
    own.find(number, at);
    const A total = sum_window<A>(
        b, at, [&](A sum, const int64_t (&i)[3]) { return sum + ratios[touched.number(i)]; });
    const int64_t offset = image + offset_of(b, at);
    dx[offset] = static_cast<T>(
        gradient_from(terms[touched.number(at)], static_cast<A>(x[offset]), total, c));
  }
}

// For windows that do not fit into shared memory: each ratio is computed anew wherever it is
// needed.
template <typename T>
__global__ void __launch_bounds__(kThreads, 1)
    lrn_backward_direct(const T* __restrict__ dy, const T* __restrict__ x, T* __restrict__ dx,
                        BlockBox b, LrnConstants<compute_t<T>> c) {
  using A = compute_t<T>;
  BoxRange own, touched;
  const int64_t image = find_box(b, blockIdx.x, own, touched);
  for (int number = threadIdx.x; number < own.count(); number += blockDim.x) {
    int64_t at[3];
    own.find(number, at);
    const A total = sum_window<A>(b, at, [&](A sum, const int64_t (&i)[3]) {
      const Powers<A> p = powers_at(x + image, b, i, c);
      const int64_t offset = image + offset_of(b, i);
      const A term = multiply(static_cast<A>(dy[offset]), p.raised);
      return sum + ratio_from(term, static_cast<A>(x[offset]), p.inverse);
    });
    const int64_t offset = image + offset_of(b, at);
    const A term = multiply(static_cast<A>(dy[offset]), powers_at(x + image, b, at, c).raised);
    dx[offset] = static_cast<T>(gradient_from(term, static_cast<A>(x[offset]), total, c));
  }
}

// Boxes of up to `most` touched elements.  The axis whose elements are neighbours in memory gets a
// warp's width first, where that fits; then the axes with a window grow, for there neighbouring
// elements share what they read; then the others.
inline BlockBox make_box(const LrnShape& s, const LrnParams& p, int64_t most) {
  const auto axis = [&](int64_t size, int64_t stride, bool windowed) {
    const int64_t last = size > 0 ? size - 1 : 0;  // a longer reach sums the same elements
    return Axis{size, stride,
                static_cast<int>(windowed ? (p.reach() < last ? p.reach() : last) : 0), 1};
  };
  const bool within = p.within_channel;
  const int64_t pixels = s.height * s.width;
  BlockBox b{{}, s.batch, s.channels * pixels};
  const int64_t column = s.channels_last ? s.channels : 1;  // from a pixel to the next
  if (within) {
    const Axis lanes = axis(s.channels, s.channels_last ? 1 : pixels, false);
    const Axis x = axis(s.width, column, true), y = axis(s.height, s.width * column, true);
    b.axes[0] = s.channels_last ? lanes : x;
    b.axes[1] = s.channels_last ? x : y;
    b.axes[2] = s.channels_last ? y : lanes;
  } else {
    const Axis lanes = axis(pixels, column, false);
    const Axis window = axis(s.channels, s.channels_last ? 1 : pixels, true);
    b.axes[0] = s.channels_last ? window : lanes;
    b.axes[1] = s.channels_last ? lanes : window;
    b.axes[2] = axis(1, 0, false);
  }
  // Doubles the axis of the box, up to `limit`; false where it may not grow.
  const auto grow = [&](Axis& axis, int64_t limit) {
    const int64_t before = axis.tile, most_here = limit < axis.size ? limit : axis.size;
    if (before >= most_here) return false;
    axis.tile = static_cast<int>(2 * before < most_here ? 2 * before : most_here);
    if (b.touched() <= most) return true;
    axis.tile = static_cast<int>(before);
    return false;
  };
  constexpr int64_t kWarpSize = 32;
  while (grow(b.axes[0], kWarpSize)) {
  }
  for (const bool windowed : {true, false}) {
    for (bool grown = true; grown;) {
      grown = false;
      for (Axis& each : b.axes) {
        if ((each.reach > 0) == windowed) grown |= grow(each, each.size);
      }
    }
  }
  return b;
}

}  // namespace lrn_cuda
}  // namespace caffe_compat
