// CUDA kernels of LRN.  Each output is computed in one pass over the input; the scale is computed
// again in the backward pass, never stored.
//
//   walk     across channels, NCHW, windows of 3 and 5: a thread walks down the channels of one to
//   four pixels with
//            the window in registers, so that each element is loaded once (and a few at the seams
//            of the walks)
//   line     across channels, NHWC, same windows: a thread takes four channels of a pixel and their
//   neighbours generic  everything else: any window, both regions, both layouts, any exponent; its
//   backward pass goes through
//            one temporary array
#pragma once

#include "common/cuda_utils.cuh"
#include "lrn/lrn.h"

namespace caffe_compat {
namespace lrn_cuda {

template <typename A>
struct Constants {
  A offset, coefficient, beta, gradient;
  LrnPower power;

  explicit Constants(const LrnParams& p)
      : offset(static_cast<A>(p.offset())),
        coefficient(static_cast<A>(p.coefficient())),
        beta(static_cast<A>(p.beta)),
        gradient(static_cast<A>(2 * p.coefficient() * p.beta)),
        power(lrn_power(p.beta)) {}
};

// scale^-beta from 1 / scale.  With roots_only the exponent is known to need no pow, which saves
// registers.
template <bool roots_only, typename A>
__device__ __forceinline__ A raise(A inverse, const Constants<A>& c) {
  if (c.power == LrnPower::kThreeQuarters)
    return lrn_raise<LrnPower::kThreeQuarters>(inverse, c.beta);
  if (c.power == LrnPower::kOne) return inverse;
  if (roots_only || c.power == LrnPower::kHalf) return lrn_raise<LrnPower::kHalf>(inverse, c.beta);
  return lrn_raise<LrnPower::kAny>(inverse, c.beta);
}

template <int size, typename A>
__device__ __forceinline__ A inverse_scale(const A* window, int step, const Constants<A>& c) {
  A sum = 0;
#pragma unroll
  for (int j = 0; j < size; ++j) sum += window[j * step] * window[j * step];
  return A(1) / (c.offset + c.coefficient * sum);
}

// ---- walk ---------------------------------------------------------------------------------------

// `columns` packs of V pixels in all images; each is walked in `walks` pieces of `channels_each`.
struct Walk {
  int64_t columns, columns_per_image, pixels, channels, channels_each, walks;
};

// Where a thread starts: its first channel, and the address offset of channel 0 of its pixels.
template <int V>
__device__ __forceinline__ bool find_walk(const Walk& w, int64_t& first, int64_t& base) {
  const int64_t thread = global_thread();
  if (thread >= w.columns * w.walks) return false;
  const int64_t column = thread % w.columns;
  first = thread / w.columns * w.channels_each;
  base = column / w.columns_per_image * w.channels * w.pixels + column % w.columns_per_image * V;
  return true;
}

// Channel `c` of this thread's pixels, zero outside.
template <int V, typename T>
__device__ __forceinline__ void load_channel(const T* x, const Walk& w, int64_t base, int64_t c,
                                             compute_t<T> (&to)[V]) {
  if (c >= 0 && c < w.channels) {
    load<V>(x + base + c * w.pixels, to);
  } else {
#pragma unroll
    for (int v = 0; v < V; ++v) to[v] = 0;
  }
}

template <typename T, int V, int reach, int step>
__global__ void __launch_bounds__(kThreads)
    forward_walk(const T* __restrict__ x, T* __restrict__ y, Walk w, Constants<compute_t<T>> c) {
  using A = compute_t<T>;
  constexpr int size = 2 * reach + 1, carried = 2 * reach;
  int64_t first, base;
  if (!find_walk<V>(w, first, base)) return;
  const int64_t last = first + w.channels_each < w.channels ? first + w.channels_each : w.channels;

  A window[carried + step][V];  // channels from channel - reach on
#pragma unroll
  for (int j = 0; j < carried; ++j) load_channel<V>(x, w, base, first - reach + j, window[j]);
  for (int64_t channel = first; channel < last; channel += step) {
#pragma unroll
    for (int j = 0; j < step; ++j)
      load_channel<V>(x, w, base, channel + reach + j, window[carried + j]);
#pragma unroll
    for (int j = 0; j < step; ++j) {
      A out[V];
#pragma unroll
      for (int v = 0; v < V; ++v) {
        out[v] = window[j + reach][v] * raise<true>(inverse_scale<size>(&window[j][v], V, c), c);
      }
      if (channel + j < last) store<V>(out, y + base + (channel + j) * w.pixels);
    }
#pragma unroll
    for (int j = 0; j < carried; ++j) {
#pragma unroll
      for (int v = 0; v < V; ++v) window[j][v] = window[j + step][v];
    }
  }
}

// The term dy scale^-beta, and the ratio dy y / scale, of the channel whose window starts at
// `window`.
template <int reach, int V, typename A>
__device__ __forceinline__ void term_and_ratio(const A (&dy)[V], const A (*window)[V], A (&term)[V],
                                               A (&ratio)[V], const Constants<A>& c) {
#pragma unroll
  for (int v = 0; v < V; ++v) {
    const A inverse = inverse_scale<2 * reach + 1>(&window[0][v], V, c);
    term[v] = dy[v] * raise<true>(inverse, c);
    ratio[v] = term[v] * window[reach][v] * inverse;
  }
}

template <typename T, int V, int reach, int step>
__global__ void __launch_bounds__(kThreads)
    backward_walk(const T* __restrict__ dy, const T* __restrict__ x, T* __restrict__ dx, Walk w,
                  Constants<compute_t<T>> c) {
  using A = compute_t<T>;
  constexpr int carried = 2 * reach;
  int64_t first, base;
  if (!find_walk<V>(w, first, base)) return;
  const int64_t last = first + w.channels_each < w.channels ? first + w.channels_each : w.channels;

  A window[2 * carried + step][V];  // x, channels from channel - 2 reach on
  A ratios[carried + step][V];      // channels from channel - reach on
  A terms[reach + step][V];         // channels from channel on
  // The ratios before the walk: channels first - reach to first + reach - 1.
#pragma unroll
  for (int j = 0; j < 2 * carried; ++j) load_channel<V>(x, w, base, first - carried + j, window[j]);
#pragma unroll
  for (int j = 0; j < carried; ++j) {
    A grad[V], term[V];
    load_channel<V>(dy, w, base, first - reach + j, grad);
    term_and_ratio<reach>(grad, &window[j], term, ratios[j], c);
#pragma unroll
    for (int v = 0; v < V; ++v) {
      if (j >= reach) terms[j - reach][v] = term[v];
    }
  }
  for (int64_t channel = first; channel < last; channel += step) {
    A grads[step][V];
#pragma unroll
    for (int j = 0; j < step; ++j) {
      load_channel<V>(x, w, base, channel + carried + j, window[2 * carried + j]);
      load_channel<V>(dy, w, base, channel + reach + j, grads[j]);
    }
#pragma unroll
    for (int j = 0; j < step; ++j) {
      term_and_ratio<reach>(grads[j], &window[carried + j], terms[reach + j], ratios[carried + j],
                            c);
    }
#pragma unroll
    for (int j = 0; j < step; ++j) {
      A out[V];
#pragma unroll
      for (int v = 0; v < V; ++v) {
        A total = 0;
#pragma unroll
        for (int i = 0; i <= carried; ++i) total += ratios[j + i][v];
        out[v] = terms[j][v] - c.gradient * window[carried + j][v] * total;
      }
      if (channel + j < last) store<V>(out, dx + base + (channel + j) * w.pixels);
    }
#pragma unroll
    for (int v = 0; v < V; ++v) {
#pragma unroll
      for (int j = 0; j < 2 * carried; ++j) window[j][v] = window[j + step][v];
#pragma unroll
      for (int j = 0; j < carried; ++j) ratios[j][v] = ratios[j + step][v];
#pragma unroll
      for (int j = 0; j < reach; ++j) terms[j][v] = terms[j + step][v];
    }
  }
}

// ---- line ---------------------------------------------------------------------------------------

// Channels channel - V to channel + 2 V - 1 of one pixel, zero outside; channel and the row are
// multiples of V.
template <int V, typename T>
__device__ __forceinline__ void load_line(const T* row, int64_t channels, int64_t channel,
                                          compute_t<T> (&to)[3 * V]) {
#pragma unroll
  for (int part = 0; part < 3; ++part) {
    const int64_t from = channel + (part - 1) * V;
    compute_t<T> values[V] = {};
    if (from >= 0 && from < channels) load<V>(row + from, values);
#pragma unroll
    for (int v = 0; v < V; ++v) to[part * V + v] = values[v];
  }
}

template <typename T, int V, int reach>
__global__ void __launch_bounds__(kThreads)
    forward_line(const T* __restrict__ x, T* __restrict__ y, int64_t elements, int64_t channels,
                 Constants<compute_t<T>> c) {
  static_assert(reach <= V, "the neighbours must lie in the packs beside");
  const int64_t at = global_thread() * V;
  if (at >= elements) return;
  const int64_t channel = at % channels;
  compute_t<T> line[3 * V], out[V];
  load_line<V>(x + at - channel, channels, channel, line);
#pragma unroll
  for (int v = 0; v < V; ++v) {
    out[v] = line[V + v] * raise<true>(inverse_scale<2 * reach + 1>(&line[V + v - reach], 1, c), c);
  }
  store<V>(out, y + at);
}

template <typename T, int V, int reach>
__global__ void __launch_bounds__(kThreads)
    backward_line(const T* __restrict__ dy, const T* __restrict__ x, T* __restrict__ dx,
                  int64_t elements, int64_t channels, Constants<compute_t<T>> c) {
  static_assert(2 * reach <= V, "the neighbours' neighbours must lie in the packs beside");
  using A = compute_t<T>;
  const int64_t at = global_thread() * V;
  if (at >= elements) return;
  const int64_t channel = at % channels;
  A line[3 * V], grads[3 * V], ratios[V + 2 * reach], out[V];
  load_line<V>(x + at - channel, channels, channel, line);
  load_line<V>(dy + at - channel, channels, channel, grads);
#pragma unroll
  for (int j = 0; j < V + 2 * reach; ++j) {
    const int i = V - reach + j;
    const A inverse = inverse_scale<2 * reach + 1>(&line[i - reach], 1, c);
    const A term = grads[i] * raise<true>(inverse, c);
    ratios[j] = term * line[i] * inverse;
    if (j >= reach && j < V + reach) out[j - reach] = term;
  }
#pragma unroll
  for (int v = 0; v < V; ++v) {
    A total = 0;
#pragma unroll
    for (int j = 0; j <= 2 * reach; ++j) total += ratios[v + j];
    out[v] -= c.gradient * line[V + v] * total;
  }
  store<V>(out, dx + at);
}

// ---- generic ------------------------------------------------------------------------------------

// The window as two nested loops: a long one over rows (within) and one over channels or columns.
struct Window {
  int64_t outer_size, outer_stride, inner_size, inner_stride, reach;
  bool over_outer;
  int64_t elements;
};

inline Window make_window(const LrnShape& s, const LrnParams& p) {
  const int64_t column = s.channels_last ? s.channels : 1;
  const int64_t elements = s.batch * s.channels * s.height * s.width;
  if (p.within_channel)
    return {s.height, s.width * column, s.width, column, p.reach(), true, elements};
  return {1, 1, s.channels, s.channels_last ? 1 : s.height * s.width, p.reach(), false, elements};
}

// Sum of values[i] (or its square) over the window around element `at`.
template <bool squared, typename T>
__device__ __forceinline__ compute_t<T> sum_window(const T* values, const Window& w, int64_t at) {
  using A = compute_t<T>;
  const int64_t inner = at / w.inner_stride % w.inner_size;
  const int64_t outer = w.over_outer ? at / w.outer_stride % w.outer_size : 0;
  const int64_t above = w.over_outer ? (outer < w.reach ? outer : w.reach) : 0;
  const int64_t rest = w.outer_size - 1 - outer;
  const int64_t below = w.over_outer ? (rest < w.reach ? rest : w.reach) : 0;
  const int64_t left = inner < w.reach ? inner : w.reach;
  const int64_t right = w.inner_size - 1 - inner < w.reach ? w.inner_size - 1 - inner : w.reach;
  A sum = 0;
  for (int64_t i = -above; i <= below; ++i) {
    for (int64_t j = -left; j <= right; ++j) {
      const A value = static_cast<A>(values[at + i * w.outer_stride + j * w.inner_stride]);
      sum += squared ? value * value : value;
    }
  }
  return sum;
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    forward_generic(const T* __restrict__ x, T* __restrict__ y, Window w,
                    Constants<compute_t<T>> c) {
  using A = compute_t<T>;
  const int64_t at = global_thread();
  if (at >= w.elements) return;
  const A inverse = A(1) / (c.offset + c.coefficient * sum_window<true>(x, w, at));
  y[at] = static_cast<T>(static_cast<A>(x[at]) * raise<false>(inverse, c));
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    ratios_generic(const T* __restrict__ dy, const T* __restrict__ x,
                   compute_t<T>* __restrict__ ratios, Window w, Constants<compute_t<T>> c) {
  using A = compute_t<T>;
  const int64_t at = global_thread();
  if (at >= w.elements) return;
  const A inverse = A(1) / (c.offset + c.coefficient * sum_window<true>(x, w, at));
  ratios[at] = static_cast<A>(dy[at]) * static_cast<A>(x[at]) * raise<false>(inverse, c) * inverse;
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    backward_generic(const T* __restrict__ dy, const T* __restrict__ x,
                     const compute_t<T>* __restrict__ ratios, T* __restrict__ dx, Window w,
                     Constants<compute_t<T>> c) {
  using A = compute_t<T>;
  const int64_t at = global_thread();
  if (at >= w.elements) return;
  const A inverse = A(1) / (c.offset + c.coefficient * sum_window<true>(x, w, at));
  const A term = static_cast<A>(dy[at]) * raise<false>(inverse, c);
  dx[at] =
      static_cast<T>(term - c.gradient * static_cast<A>(x[at]) * sum_window<false>(ratios, w, at));
}

// ---- choice and launch --------------------------------------------------------------------------

enum class Path { kWalk, kWalkPacked, kLine, kGeneric };

template <typename T>
Path choose_path(const LrnShape& s, const LrnParams& p, const T* a, const T* b,
                 const T* c = nullptr) {
  const bool usual =
      !p.within_channel && (p.size == 3 || p.size == 5) && lrn_power(p.beta) != LrnPower::kAny;
  if (!usual) return Path::kGeneric;
  if (!s.channels_last) {
    return packs_fit(s.height * s.width, kPack<T>, a, b, c) ? Path::kWalkPacked : Path::kWalk;
  }
  // A double's pack of two is too narrow for the backward line.
  const bool line = sizeof(T) < 8 && packs_fit(s.channels, kPack<T>, a, b, c);
  return line ? Path::kLine : Path::kGeneric;
}

// Enough threads to fill a large GPU (132 SMs of 2,048), but pieces long enough that their seams
// cost little.
constexpr int64_t kThreadsWanted = 1 << 19;
constexpr int64_t kLeastChannels = 24;

inline Walk make_walk(const LrnShape& s, int v) {
  const int64_t pixels = s.height * s.width, columns = s.batch * pixels / v;
  const int64_t most = ceil_div(s.channels, kLeastChannels);
  const int64_t wanted = ceil_div(kThreadsWanted, columns);
  const int64_t each = ceil_div(s.channels, wanted < most ? wanted : most);
  return {columns, pixels / v, pixels, s.channels, each, ceil_div(s.channels, each)};
}

template <typename T, int V, int reach>
void launch_forward_walk(const T* x, T* y, const LrnShape& s, const Constants<compute_t<T>>& c,
                         cudaStream_t stream) {
  const Walk walk = make_walk(s, V);
  constexpr int step = V == 1 && sizeof(T) < 8 ? 8 : reach == 2 ? 4 : 2;
  auto kernel = forward_walk<T, V, reach, step>;
  CAFFE_COMPAT_LAUNCH(kernel, blocks_for(walk.columns * walk.walks), kThreads, stream, x, y, walk,
                      c);
}

template <typename T, int V, int reach>
void launch_backward_walk(const T* dy, const T* x, T* dx, const LrnShape& s,
                          const Constants<compute_t<T>>& c, cudaStream_t stream) {
  const Walk walk = make_walk(s, V);
  constexpr int step = V == 1 && reach == 2 ? 4 : 2;
  auto kernel = backward_walk<T, V, reach, step>;
  CAFFE_COMPAT_LAUNCH(kernel, blocks_for(walk.columns * walk.walks), kThreads, stream, dy, x, dx,
                      walk, c);
}

template <typename T, int reach>
void forward_usual(Path path, const T* x, T* y, const LrnShape& s, const Constants<compute_t<T>>& c,
                   cudaStream_t stream) {
  constexpr int V = kPack<T>;
  if (path == Path::kWalk) return launch_forward_walk<T, 1, reach>(x, y, s, c, stream);
  if (path == Path::kWalkPacked) return launch_forward_walk<T, V, reach>(x, y, s, c, stream);
  const int64_t elements = s.batch * s.channels * s.height * s.width;
  auto kernel = forward_line<T, V, reach>;
  CAFFE_COMPAT_LAUNCH(kernel, blocks_for(elements / V), kThreads, stream, x, y, elements,
                      s.channels, c);
}

template <typename T, int reach>
void backward_usual(Path path, const T* dy, const T* x, T* dx, const LrnShape& s,
                    const Constants<compute_t<T>>& c, cudaStream_t stream) {
  constexpr int V = kPack<T>;
  if (path == Path::kWalk) return launch_backward_walk<T, 1, reach>(dy, x, dx, s, c, stream);
  if (path == Path::kWalkPacked) return launch_backward_walk<T, V, reach>(dy, x, dx, s, c, stream);
  if constexpr (2 * reach <= V) {
    const int64_t elements = s.batch * s.channels * s.height * s.width;
    auto kernel = backward_line<T, V, reach>;
    CAFFE_COMPAT_LAUNCH(kernel, blocks_for(elements / V), kThreads, stream, dy, x, dx, elements,
                        s.channels, c);
  }
}

}  // namespace lrn_cuda

template <typename T>
void lrn_forward_cuda(const T* x, T* y, const LrnShape& s, const LrnParams& p,
                      cudaStream_t stream) {
  using namespace lrn_cuda;
  const Constants<compute_t<T>> c(p);
  const Window w = make_window(s, p);
  if (w.elements == 0) return;
  const Path path = choose_path(s, p, x, y);
  if (path == Path::kGeneric) {
    CAFFE_COMPAT_LAUNCH(forward_generic<T>, blocks_for(w.elements), kThreads, stream, x, y, w, c);
  } else if (p.size == 3) {
    forward_usual<T, 1>(path, x, y, s, c, stream);
  } else {
    forward_usual<T, 2>(path, x, y, s, c, stream);
  }
}

// Elements of the temporary array that lrn_backward_cuda needs; mostly none.
template <typename T>
int64_t lrn_backward_workspace(const T* dy, const T* x, const T* dx, const LrnShape& s,
                               const LrnParams& p) {
  const bool needed = lrn_cuda::choose_path(s, p, dy, x, dx) == lrn_cuda::Path::kGeneric;
  return needed ? s.batch * s.channels * s.height * s.width : 0;
}

template <typename T>
void lrn_backward_cuda(const T* dy, const T* x, T* dx, compute_t<T>* workspace, const LrnShape& s,
                       const LrnParams& p, cudaStream_t stream) {
  using namespace lrn_cuda;
  const Constants<compute_t<T>> c(p);
  const Window w = make_window(s, p);
  if (w.elements == 0) return;
  const Path path = choose_path<T>(s, p, dy, x, dx);
  if (path == Path::kGeneric) {
    CAFFE_COMPAT_LAUNCH(ratios_generic<T>, blocks_for(w.elements), kThreads, stream, dy, x,
                        workspace, w, c);
    CAFFE_COMPAT_LAUNCH(backward_generic<T>, blocks_for(w.elements), kThreads, stream, dy, x,
                        workspace, dx, w, c);
  } else if (p.size == 3) {
    backward_usual<T, 1>(path, dy, x, dx, s, c, stream);
  } else {
    backward_usual<T, 2>(path, dy, x, dx, s, c, stream);
  }
}

}  // namespace caffe_compat
