// Lanes are the channels of one pixel (channels last), or the pixels of one row of a plane.
//
//   channels last   forward: an output pixel, all taps, a vector of channels in registers
//                   backward: an input pixel, the few windows over it, a vector of channels
//   planes          forward: an output row; each input row is split by column modulo stride first,
//                   so that a tap reads neighbours
//                   backward: an output row's gradients are added tap by tap

#include "pool/pool_cpu.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <type_traits>
#include <vector>

#include "common/multiversion.h"

namespace caffe_compat {
namespace {

constexpr int64_t kElementsPerTask = 16384;  // do not wake a thread for less

// The windows or taps from `first` to before `last`.
struct Span {
  int64_t first, last;
};

// Taps of window `i` that lie inside the input.
Span taps_inside(int64_t i, int64_t stride, int64_t pad, int64_t kernel, int64_t size) {
  const int64_t start = i * stride - pad;
  return {std::max<int64_t>(0, -start), std::min(kernel, size - start)};
}

// Windows that cover position `i` of the input.
Span windows_over(int64_t i, int64_t stride, int64_t pad, int64_t kernel, int64_t windows) {
  const int64_t first = i + pad - kernel + 1;
  return {first <= 0 ? 0 : (first + stride - 1) / stride,
          std::min(windows, (i + pad) / stride + 1)};
}

// ---- channels last ------------------------------------------------------------------------------

template <typename T>
struct Vector {
  static constexpr int kLanes = 64 / sizeof(T);
  using Index = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;
  typedef T Values __attribute__((vector_size(64)));
  typedef Index Numbers __attribute__((vector_size(64)));
  typedef uint8_t Bytes __attribute__((vector_size(kLanes)));
};

template <typename V, typename T>
CAFFE_COMPAT_INLINE V load(const T* from) {
  V value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

// What one output pixel is made of: its taps inside the input, row by row.
template <typename T>
struct TapList {
  const T* first[kMostTaps];
  uint8_t number[kMostTaps];
  int count = 0;
};

template <typename T>
CAFFE_COMPAT_INLINE void choose_lanes(const TapList<T>& taps, int64_t c, bool relu, T* y,
                                      uint8_t* tap) {
  using V = Vector<T>;
  using Values = typename V::Values;
  using Numbers = typename V::Numbers;
  Values best = {};
  Numbers winner = Numbers{} + typename V::Index(kNoTap);
  if (!relu) {
    best = load<Values>(taps.first[0] + c);
    winner = Numbers{} + typename V::Index(taps.number[0]);
  }
  for (int i = relu ? 0 : 1; i < taps.count; ++i) {
    const Values x = load<Values>(taps.first[i] + c);
    const Numbers better = (x > best) | (x != x);
    best = better ? x : best;
    winner = better ? Numbers{} + typename V::Index(taps.number[i]) : winner;
  }
  std::memcpy(y + c, &best, sizeof best);
  const auto bytes = __builtin_convertvector(winner, typename V::Bytes);
  std::memcpy(tap + c, &bytes, sizeof bytes);
}

template <typename T>
CAFFE_COMPAT_INLINE void choose_one(const TapList<T>& taps, int64_t c, bool relu, T* y,
                                    uint8_t* tap) {
  T best = relu ? T(0) : taps.first[0][c];
  uint8_t winner = relu ? kNoTap : taps.number[0];
  for (int i = relu ? 0 : 1; i < taps.count; ++i) {
    const T x = taps.first[i][c];
    if (x > best || x != x) best = x, winner = taps.number[i];
  }
  y[c] = best, tap[c] = winner;
}

// All channels of an output pixel.  The last vector goes back into the one before: same results.
template <typename T>
CAFFE_COMPAT_INLINE void choose_pixel(const TapList<T>& taps, int64_t channels, bool relu, T* y,
                                      uint8_t* tap) {
  constexpr int64_t kLanes = Vector<T>::kLanes;
  if (channels < kLanes) {
    for (int64_t c = 0; c < channels; ++c) choose_one(taps, c, relu, y, tap);
    return;
  }
  for (int64_t c = 0; c + kLanes <= channels; c += kLanes) choose_lanes(taps, c, relu, y, tap);
  if (channels % kLanes) choose_lanes(taps, channels - kLanes, relu, y, tap);
}

// One row of output pixels of an image.
template <typename T>
CAFFE_COMPAT_INLINE void forward_pixels(const T* image, int64_t row, const PoolSizes& s, bool relu,
                                        T* y, uint8_t* tap) {
  const Span down = taps_inside(row, s.stride_h, s.pad_h, s.kernel_h, s.height);
  for (int64_t column = 0; column < s.out_width; ++column) {
    const Span across = taps_inside(column, s.stride_w, s.pad_w, s.kernel_w, s.width);
    TapList<T> taps;
    for (int64_t kh = down.first; kh < down.last; ++kh) {
      const int64_t h = row * s.stride_h - s.pad_h + kh, left = column * s.stride_w - s.pad_w;
      for (int64_t kw = across.first; kw < across.last; ++kw) {
        taps.first[taps.count] = image + (h * s.width + left + kw) * s.channels;
        taps.number[taps.count++] = static_cast<uint8_t>(kh * s.kernel_w + kw);
      }
    }
    choose_pixel(taps, s.channels, relu, y + column * s.channels, tap + column * s.channels);
  }
}

// The windows over an input pixel: their gradients and winners, and the tap that the pixel is.
template <typename T>
struct WindowList {
  const T* dy[kMostTaps];
  const uint8_t* tap[kMostTaps];
  uint8_t number[kMostTaps];
  int count = 0;
};

template <typename T>
CAFFE_COMPAT_INLINE void collect_lanes(const WindowList<T>& windows, int64_t c, T* dx) {
  using V = Vector<T>;
  using Values = typename V::Values;
  using Numbers = typename V::Numbers;
  Values sum = {};
  for (int i = 0; i < windows.count; ++i) {
    const auto bytes = load<typename V::Bytes>(windows.tap[i] + c);
    const Numbers won = __builtin_convertvector(bytes, Numbers) == windows.number[i];
    sum += won ? load<Values>(windows.dy[i] + c) : Values{};
  }
  std::memcpy(dx + c, &sum, sizeof sum);
}

template <typename T>
CAFFE_COMPAT_INLINE void collect_pixel(const WindowList<T>& windows, int64_t channels, T* dx) {
  constexpr int64_t kLanes = Vector<T>::kLanes;
  if (channels < kLanes) {
    for (int64_t c = 0; c < channels; ++c) {
      T sum = 0;
      for (int i = 0; i < windows.count; ++i) {
        sum += windows.tap[i][c] == windows.number[i] ? windows.dy[i][c] : T(0);
      }
      dx[c] = sum;
    }
    return;
  }
  for (int64_t c = 0; c + kLanes <= channels; c += kLanes) collect_lanes(windows, c, dx);
  if (channels % kLanes) collect_lanes(windows, channels - kLanes, dx);
}

// One row of input pixels of an image.
template <typename T>
CAFFE_COMPAT_INLINE void backward_pixels(const T* dy, const uint8_t* tap, int64_t row,
                                         const PoolSizes& s, T* dx) {
  const Span down = windows_over(row, s.stride_h, s.pad_h, s.kernel_h, s.out_height);
  for (int64_t column = 0; column < s.width; ++column) {
    const Span across = windows_over(column, s.stride_w, s.pad_w, s.kernel_w, s.out_width);
    WindowList<T> windows;
    for (int64_t i = down.first; i < down.last; ++i) {
      const int64_t kh = row + s.pad_h - i * s.stride_h;
      for (int64_t j = across.first; j < across.last; ++j) {
        const int64_t kw = column + s.pad_w - j * s.stride_w,
                      place = (i * s.out_width + j) * s.channels;
        windows.dy[windows.count] = dy + place;
        windows.tap[windows.count] = tap + place;
        windows.number[windows.count++] = static_cast<uint8_t>(kh * s.kernel_w + kw);
      }
    }
    collect_pixel(windows, s.channels, dx + column * s.channels);
  }
}

// ---- planes -------------------------------------------------------------------------------------

// An input row, split by column modulo stride, with room for the padding and the overhang: column
// `c` of the padded row is at phases[c % stride][c / stride].
template <typename T>
struct PhasedRow {
  int64_t stride, pad, length;
  std::vector<T> values;

  explicit PhasedRow(const PoolSizes& s)
      : stride(s.stride_w),
        pad(s.pad_w),
        length(s.out_width + s.kernel_w / s.stride_w + s.width / s.stride_w + 2),
        values(stride * length, -std::numeric_limits<T>::infinity()) {}

  T* phase(int64_t column) { return values.data() + column % stride * length + column / stride; }

  CAFFE_COMPAT_INLINE void read(const T* __restrict row, int64_t width) {
    for (int64_t first = 0; first < stride; ++first) {
      T* __restrict to = phase(first + pad);
      const int64_t count = (width - first + stride - 1) / stride;
      for (int64_t i = 0; i < count; ++i) to[i] = row[first + i * stride];
    }
  }
};

// One row of outputs of a plane.  `winner` is scratch.
template <typename T>
CAFFE_COMPAT_INLINE void forward_plane_row(const T* plane, int64_t row, const PoolSizes& s,
                                           bool relu, PhasedRow<T>& phased,
                                           typename Vector<T>::Index* __restrict winner,
                                           T* __restrict y, uint8_t* __restrict tap) {
  using Index = typename Vector<T>::Index;
  const Span down = taps_inside(row, s.stride_h, s.pad_h, s.kernel_h, s.height);
  for (int64_t j = 0; j < s.out_width; ++j) {
    // The padding never wins, so the first tap inside does where all inputs are -infinity.
    const Span across = taps_inside(j, s.stride_w, s.pad_w, s.kernel_w, s.width);
    y[j] = relu ? T(0) : -std::numeric_limits<T>::infinity();
    winner[j] = static_cast<Index>(relu ? kNoTap : down.first * s.kernel_w + across.first);
  }
  for (int64_t kh = down.first; kh < down.last; ++kh) {
    phased.read(plane + (row * s.stride_h - s.pad_h + kh) * s.width, s.width);
    for (int64_t kw = 0; kw < s.kernel_w; ++kw) {
      const T* __restrict x = phased.phase(kw);
      const auto number = static_cast<Index>(kh * s.kernel_w + kw);
      for (int64_t j = 0; j < s.out_width; ++j) {
        const bool better = x[j] > y[j] || x[j] != x[j];
        y[j] = better ? x[j] : y[j];
        winner[j] = better ? number : winner[j];
      }
    }
  }
  for (int64_t j = 0; j < s.out_width; ++j) tap[j] = static_cast<uint8_t>(winner[j]);
}

template <typename T>
CAFFE_COMPAT_INLINE void forward_plane(const T* plane, const PoolSizes& s, bool relu, T* y,
                                       uint8_t* tap) {
  PhasedRow<T> phased(s);
  std::vector<typename Vector<T>::Index> winner(s.out_width);
  for (int64_t row = 0; row < s.out_height; ++row) {
    forward_plane_row(plane, row, s, relu, phased, winner.data(), y + row * s.out_width,
                      tap + row * s.out_width);
  }
}

// An element is won by few windows, so adding one after the other is as quick as anything.
template <typename T>
void backward_plane(const T* dy, const uint8_t* tap, T* dx, const PoolSizes& s) {
  std::fill(dx, dx + s.pixels(), T(0));
  int64_t offset[kMostTaps + 1];
  for (int64_t t = 0; t < s.taps(); ++t) offset[t] = t / s.kernel_w * s.width + t % s.kernel_w;
  for (int64_t i = 0; i < s.out_height; ++i) {
    const int64_t row = (i * s.stride_h - s.pad_h) * s.width - s.pad_w;
    for (int64_t j = 0; j < s.out_width; ++j) {
      const int64_t place = i * s.out_width + j;
      if (tap[place] != kNoTap) dx[row + j * s.stride_w + offset[tap[place]]] += dy[place];
    }
  }
}

// ---- versions and threads -----------------------------------------------------------------------

#define CAFFE_COMPAT_POOL_VERSIONS(T)                                                              \
  CAFFE_COMPAT_MULTIVERSION void forward_task(const T* x, int64_t row, const PoolSizes& s,         \
                                              bool relu, T* y, uint8_t* tap) {                     \
    s.channels_last ? forward_pixels(x, row, s, relu, y, tap) : forward_plane(x, s, relu, y, tap); \
  }                                                                                                \
  CAFFE_COMPAT_MULTIVERSION void backward_task(const T* dy, const uint8_t* tap, int64_t row,       \
                                               const PoolSizes& s, T* dx) {                        \
    backward_pixels(dy, tap, row, s, dx);                                                          \
  }
CAFFE_COMPAT_POOL_VERSIONS(float)
CAFFE_COMPAT_POOL_VERSIONS(double)
#undef CAFFE_COMPAT_POOL_VERSIONS

template <typename Task>
void for_each(int64_t count, int64_t elements_each, const Task& task) {
  const int64_t grain =
      std::max<int64_t>(1, kElementsPerTask / std::max<int64_t>(1, elements_each));
  at::parallel_for(0, count, grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) task(i);
  });
}

}  // namespace

template <typename T>
void max_pool_forward_cpu(const T* x, T* y, uint8_t* tap, const PoolSizes& s, bool relu) {
  if (s.channels_last) {
    const int64_t row = s.out_width * s.channels;
    for_each(s.batch * s.out_height, row * s.taps(), [&](int64_t i) {
      const T* image = x + i / s.out_height * s.pixels() * s.channels;
      forward_task(image, i % s.out_height, s, relu, y + i * row, tap + i * row);
    });
  } else {
    for_each(s.batch * s.channels, s.out_pixels() * s.taps(), [&](int64_t i) {
      const int64_t out = i * s.out_pixels();
      forward_task(x + i * s.pixels(), 0, s, relu, y + out, tap + out);
    });
  }
}

template <typename T>
void max_pool_backward_cpu(const T* dy, const uint8_t* tap, T* dx, const PoolSizes& s) {
  if (s.channels_last) {
    const int64_t row = s.width * s.channels, out = s.out_pixels() * s.channels;
    for_each(s.batch * s.height, 2 * row, [&](int64_t i) {
      const int64_t n = i / s.height;
      backward_task(dy + n * out, tap + n * out, i % s.height, s, dx + i * row);
    });
  } else {
    for_each(s.batch * s.channels, s.pixels() + s.out_pixels(), [&](int64_t i) {
      const int64_t out = i * s.out_pixels();
      backward_plane(dy + out, tap + out, dx + i * s.pixels(), s);
    });
  }
}

template void max_pool_forward_cpu(const float*, float*, uint8_t*, const PoolSizes&, bool);
template void max_pool_forward_cpu(const double*, double*, uint8_t*, const PoolSizes&, bool);
template void max_pool_backward_cpu(const float*, const uint8_t*, float*, const PoolSizes&);
template void max_pool_backward_cpu(const double*, const uint8_t*, double*, const PoolSizes&);

}  // namespace caffe_compat
