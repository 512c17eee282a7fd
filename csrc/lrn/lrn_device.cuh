// The arithmetic of LRN on CUDA.  LRN's own kernels and the fused ones of csrc/pool call these same
// functions, in which every rounding is written out, so that all of them give the same bits.
#pragma once

#include "common/cuda_utils.cuh"
#include "lrn/lrn.h"

namespace caffe_compat {
namespace lrn_cuda {

template <typename A>
struct LrnConstants {
  A offset, coefficient, beta, gradient;
  LrnPower power;

  explicit LrnConstants(const LrnParams& p)
      : offset(static_cast<A>(p.offset())),
        coefficient(static_cast<A>(p.coefficient())),
        beta(static_cast<A>(p.beta)),
        gradient(static_cast<A>(2 * p.coefficient() * p.beta)),
        power(lrn_power(p.beta)) {}
};

// 1 / sqrt(x) and sqrt(x).  In float32 the hardware's own, within 2^-22 of the exact ones, in a few
// instructions where the exact ones take twenty: LRN moves so few bytes that these count.
__device__ __forceinline__ float inverse_root(float x) { return rsqrtf(x); }
__device__ __forceinline__ float root(float x) { return approximate_sqrt(x); }
__device__ __forceinline__ double inverse_root(double x) { return 1 / std::sqrt(x); }
__device__ __forceinline__ double root(double x) { return std::sqrt(x); }

// a * b and a * b + c, each rounded once.  A plain product that goes into a sum is fused with it or
// not by how often nvcc finds it used, so that one source gives two results in two kernels.
__device__ __forceinline__ float multiply(float a, float b) { return __fmul_rn(a, b); }
__device__ __forceinline__ double multiply(double a, double b) { return __dmul_rn(a, b); }
__device__ __forceinline__ float multiply_add(float a, float b, float c) {
  return __fmaf_rn(a, b, c);
}
__device__ __forceinline__ double multiply_add(double a, double b, double c) {
  return __fma_rn(a, b, c);
}

// scale^-beta and 1 / scale.
template <typename A>
struct Powers {
  A raised, inverse;
};

// With roots_only the exponent is known to be 1/2, 3/4 or 1: without a call of pow the kernel takes
// fewer registers.
template <bool roots_only, typename A>
__device__ __forceinline__ Powers<A> powers(A scale, const LrnConstants<A>& c) {
  if (!roots_only && c.power == LrnPower::kAny) {
    const A inverse = A(1) / scale;
    return {lrn_raise<LrnPower::kAny>(inverse, c.beta), inverse};
  }
  const A half = inverse_root(scale), inverse = multiply(half, half);
  if (c.power == LrnPower::kThreeQuarters) return {multiply(half, root(half)), inverse};
  return {c.power == LrnPower::kHalf ? half : inverse, inverse};
}

// One more element of a window in the sum of its squares, from 0 on in the order of the window.
template <typename A>
__device__ __forceinline__ A add_square(A sum, A x) {
  return multiply_add(x, x, sum);
}

template <typename A>
__device__ __forceinline__ A scale_from(A squares, const LrnConstants<A>& c) {
  return multiply_add(c.coefficient, squares, c.offset);
}

// The ratio dy y / scale from the term dy scale^-beta.
template <typename A>
__device__ __forceinline__ A ratio_from(A term, A x, A inverse) {
  return multiply(multiply(term, x), inverse);
}

// The gradient of x from its term and the sum of the ratios around it.
template <typename A>
__device__ __forceinline__ A gradient_from(A term, A x, A ratios, const LrnConstants<A>& c) {
  return multiply_add(-multiply(c.gradient, x), ratios, term);
}

// ---- across channels, the window in registers ---------------------------------------------------

template <int size, typename A>
__device__ __forceinline__ A scale_of(const A* window, int step, const LrnConstants<A>& c) {
  A sum = 0;
#pragma unroll
  for (int j = 0; j < size; ++j) sum = add_square(sum, window[j * step]);
  return scale_from(sum, c);
}

// The middle one of the 2 reach + 1 channels of `window`, normalised; they lie `step` apart.
template <int reach, typename A>
__device__ __forceinline__ A normalise(const A* window, int step, const LrnConstants<A>& c) {
  const A scale = scale_of<2 * reach + 1>(window, step, c);
  return multiply(window[reach * step], powers<true>(scale, c).raised);
}

// For the gradient: the term dy scale^-beta, and the ratio dy y / scale, of the channel in the
// middle of `window`.
template <int reach, typename A>
__device__ __forceinline__ void term_and_ratio(A dy, const A* window, int step, A& term, A& ratio,
                                               const LrnConstants<A>& c) {
  const Powers<A> p = powers<true>(scale_of<2 * reach + 1>(window, step, c), c);
  term = multiply(dy, p.raised);
  ratio = ratio_from(term, window[reach * step], p.inverse);
}

// The gradient of a channel x from its term and the ratios of the 2 reach + 1 channels around it.
template <int reach, typename A>
__device__ __forceinline__ A gradient(A term, A x, const A* ratios, int step,
                                      const LrnConstants<A>& c) {
  A total = 0;
#pragma unroll
  for (int j = 0; j <= 2 * reach; ++j) total += ratios[j * step];
  return gradient_from(term, x, total, c);
}

// ---- NHWC: channels lie side by side ------------------------------------------------------------

// Vectors of V channels that hold the `reach` neighbours on one side.
template <int V>
constexpr int vectors_beside(int reach) {
  return (reach + V - 1) / V;
}

// Where a channel of a row lies; rows of other kinds have this function of their own.
template <typename T>
__device__ __forceinline__ const T* channel_at(const T* row, int64_t channel) {
  return row + channel;
}

// The vector of V channels from `channel` on, with `beside` vectors on each side, zero outside the
// row of `channels`; both numbers are multiples of V.
template <int V, int beside, typename Row, typename A>
__device__ __forceinline__ void load_with_neighbours(const Row& row, int64_t channels,
                                                     int64_t channel,
                                                     A (&to)[(2 * beside + 1) * V]) {
#pragma unroll
  for (int part = 0; part <= 2 * beside; ++part) {
    const int64_t from = channel + (part - beside) * V;
    A values[V] = {};
    if (from >= 0 && from < channels) load<V>(channel_at(row, from), values);
#pragma unroll
    for (int v = 0; v < V; ++v) to[part * V + v] = values[v];
  }
}

template <int V, int reach, typename T>
__device__ __forceinline__ void normalise_row(const T* row, int64_t channels, int64_t channel,
                                              compute_t<T> (&out)[V],
                                              const LrnConstants<compute_t<T>>& c) {
  constexpr int beside = vectors_beside<V>(reach);
  compute_t<T> line[(2 * beside + 1) * V];
  load_with_neighbours<V, beside>(row, channels, channel, line);
#pragma unroll
  for (int v = 0; v < V; ++v) out[v] = normalise<reach>(&line[beside * V + v - reach], 1, c);
}

template <int V, int reach, typename Row, typename T>
__device__ __forceinline__ void gradient_row(const Row& dy, const T* x, int64_t channels,
                                             int64_t channel, compute_t<T> (&out)[V],
                                             const LrnConstants<compute_t<T>>& c) {
  using A = compute_t<T>;
  constexpr int beside_x = vectors_beside<V>(2 * reach), beside_dy = vectors_beside<V>(reach);
  A line[(2 * beside_x + 1) * V], grads[(2 * beside_dy + 1) * V];
  load_with_neighbours<V, beside_x>(x, channels, channel, line);
  load_with_neighbours<V, beside_dy>(dy, channels, channel, grads);
  A terms[V + 2 * reach], ratios[V + 2 * reach];  // channels from channel - reach on
#pragma unroll
  for (int j = 0; j < V + 2 * reach; ++j) {
    term_and_ratio<reach>(grads[beside_dy * V - reach + j], &line[beside_x * V - 2 * reach + j], 1,
                          terms[j], ratios[j], c);
  }
#pragma unroll
  for (int v = 0; v < V; ++v) {
    out[v] = gradient<reach>(terms[reach + v], line[beside_x * V + v], &ratios[v], 1, c);
  }
}

}  // namespace lrn_cuda
}  // namespace caffe_compat
