// What the CUDA kernels of max pooling share: window sizes, the maximum of a window, and the sum
// over the windows that cover a pixel.
#pragma once

#include <limits>

#include "common/cuda_utils.cuh"
#include "parts/parts_device.cuh"
#include "pool/pool.h"

namespace caffe_compat {
namespace pool_cuda {

// PoolSizes as the kernels read them.  Rows, columns and strides are below 2^30 (pool_cuda.cu
// checks it); offsets are 64-bit.  `kernel` and `stride` are those of both axes and known when
// compiling, or both 0 and known only at run time.
template <int kernel, int stride>
struct PoolWindow {
  static constexpr bool fixed = kernel > 0;
  static constexpr int fixed_kernel = kernel, fixed_stride = stride;
  int height, width, out_height, out_width, pad_h, pad_w;
  int run_kernel_h, run_kernel_w, run_stride_h, run_stride_w;

  explicit PoolWindow(const PoolSizes& s)
      : height(s.height),
        width(s.width),
        out_height(s.out_height),
        out_width(s.out_width),
        pad_h(s.pad_h),
        pad_w(s.pad_w),
        run_kernel_h(s.kernel_h),
        run_kernel_w(s.kernel_w),
        run_stride_h(s.stride_h),
        run_stride_w(s.stride_w) {}

  __host__ __device__ constexpr int kernel_h() const { return fixed ? kernel : run_kernel_h; }
  __host__ __device__ constexpr int kernel_w() const { return fixed ? kernel : run_kernel_w; }
  __host__ __device__ constexpr int stride_h() const { return fixed ? stride : run_stride_h; }
  __host__ __device__ constexpr int stride_w() const { return fixed ? stride : run_stride_w; }
  // The most windows that cover one row or column.
  __host__ __device__ constexpr int windows_h() const {
    return (kernel_h() + stride_h() - 1) / stride_h();
  }
  __host__ __device__ constexpr int windows_w() const {
    return (kernel_w() + stride_w() - 1) / stride_w();
  }
};
using UsualPoolWindow = PoolWindow<3, 2>;
using AnyPoolWindow = PoolWindow<0, 0>;

// Blocks that an SM must be able to hold, for __launch_bounds__.  Left to itself (0), ptxas gives
// some of the rarer kernels fewer registers than they need, and spills.
template <typename T, typename W>
constexpr int kLeastBlocks = W::fixed && sizeof(T) < 8 ? 0 : 1;

inline bool is_usual(const PoolSizes& s) {
  return s.kernel_h == 3 && s.kernel_w == 3 && s.stride_h == 2 && s.stride_w == 2;
}

// The taps of V elements, one byte each, moved as one access.
template <int V>
__device__ __forceinline__ void load_taps(const uint8_t* from, int (&to)[V]) {
  const AlignedVector<uint8_t, V> vector =
      *reinterpret_cast<const AlignedVector<uint8_t, V>*>(from);
#pragma unroll
  for (int v = 0; v < V; ++v) to[v] = vector.values[v];
}

template <int V>
__device__ __forceinline__ void store_taps(const int (&from)[V], uint8_t* to) {
  AlignedVector<uint8_t, V> vector;
#pragma unroll
  for (int v = 0; v < V; ++v) vector.values[v] = static_cast<uint8_t>(from[v]);
  *reinterpret_cast<AlignedVector<uint8_t, V>*>(to) = vector;
}

// The maxima of one window in V channels.
template <typename A, int V>
struct WindowMaximum {
  A value[V];
  int tap[V];

  template <typename T>
  __device__ __forceinline__ void take(const AlignedVector<T, V>& vector, int number) {
#pragma unroll
    for (int v = 0; v < V; ++v) {
      const A x = static_cast<A>(vector.values[v]);
      if (x > value[v] || x != x) {  // NaN is passed on
        value[v] = x;
        tap[v] = number;
      }
    }
  }
};

// The maximum of a window of input + bias, from that of the input: rounding keeps the order, so
// that these are the same bits.  With relu what is not positive becomes 0 and has no tap.
template <typename T, int V, typename A>
__device__ __forceinline__ void add_bias_to(WindowMaximum<A, V>& best, const A (&bias)[V],
                                            bool relu) {
#pragma unroll
  for (int v = 0; v < V; ++v) {
    best.value[v] = add_bias<T>(best.value[v], bias[v]);
    if (relu && best.value[v] <= 0) best.value[v] = 0, best.tap[v] = kNoTap;
  }
}

// The maximum over the window at (top, left).  `channels` points to pixel (0, 0) of V channels;
// neighbours in a row are `pixel` elements apart.
//
// With relu the maximum starts at 0, and a window without a positive element has no tap.  Without
// it the maximum starts at -infinity and the tap at the first one inside the input, which is then
// right for a window of nothing but -infinity, too.
template <int V, typename W, typename T>
__device__ __forceinline__ WindowMaximum<compute_t<T>, V> pool_window(const T* channels,
                                                                      int64_t pixel, const W& w,
                                                                      int top, int left,
                                                                      bool relu) {
  using A = compute_t<T>;
  constexpr A lowest = -std::numeric_limits<A>::infinity();
  const int first_row = top < 0 ? -top : 0, first_column = left < 0 ? -left : 0;
  WindowMaximum<A, V> best;
#pragma unroll
  for (int v = 0; v < V; ++v) {
    best.value[v] = relu ? A(0) : lowest;
    best.tap[v] = relu ? kNoTap : first_row * w.kernel_w() + first_column;
  }
  if constexpr (W::fixed) {
    // All loads of a row of taps before the first comparison, so that they wait for memory
    // together. What is outside counts as -infinity, which never wins.
#pragma unroll
    for (int r = 0; r < w.kernel_h(); ++r) {
      AlignedVector<T, V> values[W::fixed_kernel];
      const bool row_inside = top + r >= 0 && top + r < w.height;
      const int64_t row = static_cast<int64_t>(top + r) * w.width + left;
#pragma unroll
      for (int q = 0; q < w.kernel_w(); ++q) {
        if (row_inside && left + q >= 0 && left + q < w.width) {
          values[q] = *reinterpret_cast<const AlignedVector<T, V>*>(channels + (row + q) * pixel);
        } else {
#pragma unroll
          for (int v = 0; v < V; ++v) values[q].values[v] = static_cast<T>(lowest);
        }
      }
#pragma unroll
      for (int q = 0; q < w.kernel_w(); ++q) best.take(values[q], r * w.kernel_w() + q);
    }
  } else {
    const int rows = w.height - top < w.kernel_h() ? w.height - top : w.kernel_h();
    const int columns = w.width - left < w.kernel_w() ? w.width - left : w.kernel_w();
    for (int r = first_row; r < rows; ++r) {
      const int64_t row = static_cast<int64_t>(top + r) * w.width + left;
      for (int q = first_column; q < columns; ++q) {
        best.take(*reinterpret_cast<const AlignedVector<T, V>*>(channels + (row + q) * pixel),
                  r * w.kernel_w() + q);
      }
    }
  }
  return best;
}

// ---- tensors of the NHWC kernels ----------------------------------------------------------------

// One tensor each: the kernels' other arguments.
struct WholeTensors {
  static constexpr bool in_parts = false;
};

// Input and output in parts, and a bias between the maximum and ReLU.  Pooled values behind which
// LRN follows, and taps, are one tensor each.
template <typename T>
struct TensorsInParts {
  static constexpr bool in_parts = true;
  ChannelParts<const T> input;
  ChannelParts<T> output;
  ChannelBias<T> bias;
};

// The gradients in parts, and the sums of the input's gradient over the windows of each tile, one
// row a tile: the bias's gradient in pieces.
template <typename T>
struct GradientsInParts {
  static constexpr bool in_parts = true;
  ChannelParts<const T> output_grad;
  ChannelParts<T> input_grad;
  compute_t<T>* rows;
};

// ---- tiles of the input, for the backward pass --------------------------------------------------

// Input rows (columns) are counted in units of a stride: row h belongs to unit (h + pad) / stride,
// and the windows that cover it are the one that starts with that unit and the windows_h() - 1
// before it.  For a kernel of 3, stride 2, no padding:
//
//     row         0   1   2   3   4   5   6   7   8
//     unit        |   0   |   1   |   2   |   3   | 4 ..
//     window 0    *   *   *
//     window 1            *   *   *
//     window 2                    *   *   *
//     window 3                            *   *   *
//
// A tile of the input is units_h x units_w units.  The windows before its first unit also cover the
// tile before it, so that both tiles read them.
struct InputTiling {
  int units_h, units_w;  // of one tile
  int tiles_h, tiles_w;  // in one image
  int slots_h, slots_w;  // windows that cover one tile, at most

  __host__ __device__ int64_t per_image() const { return static_cast<int64_t>(tiles_h) * tiles_w; }
  __host__ __device__ int slots() const { return slots_h * slots_w; }
  __host__ __device__ int units() const { return units_h * units_w; }
};

struct InputTile {
  int unit_top, unit_left;                       // its first unit
  int top, bottom, left, right;                  // rows and columns of the input
  int out_top, out_bottom, out_left, out_right;  // windows that cover them

  __device__ __forceinline__ int rows() const { return bottom - top; }
  __device__ __forceinline__ int columns() const { return right - left; }
  __device__ __forceinline__ int out_rows() const { return out_bottom - out_top; }
  __device__ __forceinline__ int out_columns() const { return out_right - out_left; }
};

// Rows (columns) of the input in units first to first + units - 1, and the windows that cover them.
__device__ __forceinline__ void tile_axis(int first, int units, int size, int out_size, int stride,
                                          int pad, int windows, int& begin, int& end,
                                          int& out_begin, int& out_end) {
  const int64_t before = static_cast<int64_t>(first) * stride - pad;
  const int64_t behind = static_cast<int64_t>(first + units) * stride - pad;
  begin = before > 0 ? before : 0;
  end = behind < size ? behind : size;
  out_begin = first - (windows - 1) > 0 ? first - (windows - 1) : 0;
  out_end = first + units < out_size ? first + units : out_size;
  if (out_begin > out_end) out_begin = out_end;
}

template <typename W>
__device__ __forceinline__ InputTile find_tile(const W& w, const InputTiling& tiles,
                                               int64_t number) {
  InputTile t;
  t.unit_top = static_cast<int>(number / tiles.tiles_w) * tiles.units_h;
  t.unit_left = static_cast<int>(number % tiles.tiles_w) * tiles.units_w;
  tile_axis(t.unit_top, tiles.units_h, w.height, w.out_height, w.stride_h(), w.pad_h, w.windows_h(),
            t.top, t.bottom, t.out_top, t.out_bottom);
  tile_axis(t.unit_left, tiles.units_w, w.width, w.out_width, w.stride_w(), w.pad_w, w.windows_w(),
            t.left, t.right, t.out_left, t.out_right);
  return t;
}

// Sum of the gradients of the windows that chose input pixel (row, column), in ascending order of
// the windows, for V channels.  Window (i, j) of the tile has its gradients and taps in shared
// memory at
// ((i - out_top) * out_columns + j - out_left) * pitch.
template <int V, typename W, typename T>
__device__ __forceinline__ void gather(const T* grads, const uint8_t* taps, int pitch, const W& w,
                                       const InputTile& t, int row, int column,
                                       compute_t<T> (&sum)[V]) {
#pragma unroll
  for (int v = 0; v < V; ++v) sum[v] = 0;
  const int unit_h = (row + w.pad_h) / w.stride_h(), unit_w = (column + w.pad_w) / w.stride_w();
#pragma unroll
  for (int r = w.windows_h() - 1; r >= 0; --r) {
    const int i = unit_h - r, tap_row = row + w.pad_h - i * w.stride_h();
    if (i < t.out_top || i >= t.out_bottom || tap_row >= w.kernel_h()) continue;
#pragma unroll
    for (int q = w.windows_w() - 1; q >= 0; --q) {
      const int j = unit_w - q, tap_column = column + w.pad_w - j * w.stride_w();
      if (j < t.out_left || j >= t.out_right || tap_column >= w.kernel_w()) continue;
      const int at = ((i - t.out_top) * t.out_columns() + j - t.out_left) * pitch;
      const int own = tap_row * w.kernel_w() + tap_column;
      compute_t<T> grad[V];
      int tap[V];
      load<V>(grads + at, grad);
      load_taps<V>(taps + at, tap);
#pragma unroll
      for (int v = 0; v < V; ++v) {
        if (tap[v] == own) sum[v] += grad[v];
      }
    }
  }
}

// The same for the stride x stride pixels of one unit at once, for windows known when compiling:
// each window is read once for all of them.
template <int V, typename W, typename T, int stride = W::fixed_stride>
__device__ __forceinline__ void gather_unit(const T* grads, const uint8_t* taps, int pitch,
                                            const W& w, const InputTile& t, int unit_h, int unit_w,
                                            compute_t<T> (&sum)[stride][stride][V]) {
  constexpr int kernel = W::fixed_kernel, windows = (kernel + stride - 1) / stride;
#pragma unroll
  for (int a = 0; a < stride; ++a) {
#pragma unroll
    for (int b = 0; b < stride; ++b) {
#pragma unroll
      for (int v = 0; v < V; ++v) sum[a][b][v] = 0;
    }
  }
#pragma unroll
  for (int r = windows - 1; r >= 0; --r) {
    const int i = unit_h - r;
    if (i < t.out_top || i >= t.out_bottom) continue;
#pragma unroll
    for (int q = windows - 1; q >= 0; --q) {
      const int j = unit_w - q;
      if (j < t.out_left || j >= t.out_right) continue;
      const int at = ((i - t.out_top) * t.out_columns() + j - t.out_left) * pitch;
      compute_t<T> grad[V];
      int tap[V];
      load<V>(grads + at, grad);
      load_taps<V>(taps + at, tap);
#pragma unroll
      for (int a = 0; a < stride && a + r * stride < kernel; ++a) {
#pragma unroll
        for (int b = 0; b < stride && b + q * stride < kernel; ++b) {
          const int own = (a + r * stride) * kernel + b + q * stride;
#pragma unroll
          for (int v = 0; v < V; ++v) {
            if (tap[v] == own) sum[a][b][v] += grad[v];
          }
        }
      }
    }
  }
}

// Calls put(row, column, sum) for the tile's pixels.  This thread takes every `step`-th of them, or
// every `step`-th unit where the window is known when compiling, from `first` on.
template <int V, typename W, typename T, typename Put>
__device__ __forceinline__ void gather_tile(const T* grads, const uint8_t* taps, int pitch,
                                            const W& w, const InputTiling& tiles,
                                            const InputTile& t, int first, int step,
                                            const Put& put) {
  if constexpr (W::fixed) {
    constexpr int stride = W::fixed_stride;
    for (int p = first; p < tiles.units(); p += step) {
      const int unit_h = t.unit_top + p / tiles.units_w, unit_w = t.unit_left + p % tiles.units_w;
      const int row = unit_h * stride - w.pad_h, column = unit_w * stride - w.pad_w;
      if (row >= t.bottom || column >= t.right) continue;
      compute_t<T> sum[stride][stride][V];
      gather_unit<V>(grads, taps, pitch, w, t, unit_h, unit_w, sum);
#pragma unroll
      for (int a = 0; a < stride; ++a) {
#pragma unroll
        for (int b = 0; b < stride; ++b) {
          const int h = row + a, x = column + b;
          if (h >= t.top && h < t.bottom && x >= t.left && x < t.right) put(h, x, sum[a][b]);
        }
      }
    }
  } else {
    for (int p = first; p < t.rows() * t.columns(); p += step) {
      const int h = t.top + p / t.columns(), x = t.left + p % t.columns();
      compute_t<T> sum[V];
      gather<V>(grads, taps, pitch, w, t, h, x, sum);
      put(h, x, sum);
    }
  }
}

// Tiles of at most `most` units and at most `most` windows; as wide as possible up to
// `most_columns` units, so that accesses are long.  `most` >= windows_h * windows_w.
inline InputTiling make_tiles(const PoolSizes& s, int most, int most_columns) {
  const auto units = [](int64_t size, int64_t pad, int64_t stride) {
    return (size - 1 + pad) / stride + 1;
  };
  const int64_t windows_h = ceil_div(s.kernel_h, s.stride_h);
  const int64_t windows_w = ceil_div(s.kernel_w, s.stride_w);
  const int64_t all_h = units(s.height, s.pad_h, s.stride_h);
  const int64_t all_w = units(s.width, s.pad_w, s.stride_w);
  const auto slots = [](int64_t units, int64_t windows, int64_t out_size) {
    return units + windows - 1 < out_size ? units + windows - 1 : out_size;
  };
  const auto fits = [&](int64_t h, int64_t w) {
    return h * w <= most &&
           slots(h, windows_h, s.out_height) * slots(w, windows_w, s.out_width) <= most;
  };
  int64_t w = all_w < most_columns ? all_w : most_columns, h = 1;
  while (w > 1 && !fits(1, w)) --w;
  while (h < all_h && fits(h + 1, w)) ++h;
  // As even as possible: the last tile of an axis should not be a sliver.
  const int64_t tiles_h = ceil_div(all_h, h), tiles_w = ceil_div(all_w, w);
  h = ceil_div(all_h, tiles_h), w = ceil_div(all_w, tiles_w);
  return {.units_h = static_cast<int>(h),
          .units_w = static_cast<int>(w),
          .tiles_h = static_cast<int>(ceil_div(all_h, h)),
          .tiles_w = static_cast<int>(ceil_div(all_w, w)),
          .slots_h = static_cast<int>(slots(h, windows_h, s.out_height)),
          .slots_w = static_cast<int>(slots(w, windows_w, s.out_width))};
}

}  // namespace pool_cuda
}  // namespace caffe_compat
