// The CPU kernels of max pooling.  Vector lanes are the channels of one pixel (channels last), or
// the pixels of one row of a plane (NCHW).
//
//   channels last   forward: an output pixel, tap by tap
//                   backward: an input pixel, from the few windows over it
//   planes          forward: an output row; each input row is split into phases (column modulo
//                   stride) first, so that neighbouring windows find their taps side by side:
//
//                       row, stride 2   0 1 2 3 4 5 6 7
//                       phase 0         0 2 4 6           tap 0 of windows 0 to 3; from 2 on: tap 2
//                       phase 1         1 3 5 7           tap 1
//
//                   where rows are shorter than a vector, all windows of a plane side by side:
//                   rows are split into phases, too
//                   backward: an output row's gradients are added tap by tap

#include "pool/pool_cpu.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <limits>
#include <type_traits>
#include <vector>

#include "common/multiversion.h"

namespace caffe_compat {
namespace {

constexpr int64_t kElementsPerTask = 16384;  // for fewer, waking a thread costs more than it saves

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

// As wide as T, so that one vector holds as many of either.
template <typename T>
using Index = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;

// In each lane x, the element under tap `number`, becomes the best where it is larger or NaN.
template <typename T>
CAFFE_COMPAT_INLINE void offer(const T* __restrict x, int64_t number, int64_t lanes,
                               T* __restrict best, Index<T>* __restrict winner) {
  const auto this_tap = static_cast<Index<T>>(number);
  for (int64_t i = 0; i < lanes; ++i) {
    const bool better = x[i] > best[i] || x[i] != x[i];
    best[i] = better ? x[i] : best[i];
    winner[i] = better ? this_tap : winner[i];
  }
}

template <typename T>
CAFFE_COMPAT_INLINE void narrow(const Index<T>* __restrict winner, int64_t lanes,
                                uint8_t* __restrict tap) {
  for (int64_t i = 0; i < lanes; ++i) tap[i] = static_cast<uint8_t>(winner[i]);
}

// ---- channels last ------------------------------------------------------------------------------

// One row of output pixels of an image.
template <typename T>
CAFFE_COMPAT_INLINE void forward_pixels(const T* image, int64_t row, const PoolSizes& s, bool relu,
                                        Index<T>* __restrict winner, T* y, uint8_t* tap) {
  const Span down = taps_inside(row, s.stride_h, s.pad_h, s.kernel_h, s.height);
  for (int64_t column = 0; column < s.out_width; ++column, y += s.channels, tap += s.channels) {
    const Span across = taps_inside(column, s.stride_w, s.pad_w, s.kernel_w, s.width);
    std::fill(y, y + s.channels, relu ? T(0) : -std::numeric_limits<T>::infinity());
    // Without ReLU the first tap inside wins where all inputs are -infinity.
    std::fill(winner, winner + s.channels,
              static_cast<Index<T>>(relu ? kNoTap : down.first * s.kernel_w + across.first));
    for (int64_t kh = down.first; kh < down.last; ++kh) {
      const int64_t h = row * s.stride_h - s.pad_h + kh, left = column * s.stride_w - s.pad_w;
      for (int64_t kw = across.first; kw < across.last; ++kw) {
        offer(image + (h * s.width + left + kw) * s.channels, kh * s.kernel_w + kw, s.channels, y,
              winner);
      }
    }
    narrow<T>(winner, s.channels, tap);
  }
}

// Adds dy to dx where the window was won by the tap that this input pixel is.
template <typename T>
CAFFE_COMPAT_INLINE void collect(const T* __restrict dy, const uint8_t* __restrict tap,
                                 int64_t number, int64_t lanes, T* __restrict dx) {
  const auto this_tap = static_cast<Index<T>>(number);
  for (int64_t i = 0; i < lanes; ++i) {
    dx[i] += static_cast<Index<T>>(tap[i]) == this_tap ? dy[i] : T(0);
  }
}

// One row of input pixels of an image.
template <typename T>
CAFFE_COMPAT_INLINE void backward_pixels(const T* dy, const uint8_t* tap, int64_t row,
                                         const PoolSizes& s, T* dx) {
  const Span down = windows_over(row, s.stride_h, s.pad_h, s.kernel_h, s.out_height);
  for (int64_t column = 0; column < s.width; ++column, dx += s.channels) {
    const Span across = windows_over(column, s.stride_w, s.pad_w, s.kernel_w, s.out_width);
    std::fill(dx, dx + s.channels, T(0));
    for (int64_t i = down.first; i < down.last; ++i) {
      const int64_t kh = row + s.pad_h - i * s.stride_h;
      for (int64_t j = across.first; j < across.last; ++j) {
        const int64_t kw = column + s.pad_w - j * s.stride_w,
                      place = (i * s.out_width + j) * s.channels;
        collect(dy + place, tap + place, kh * s.kernel_w + kw, s.channels, dx);
      }
    }
  }
}

// ---- planes -------------------------------------------------------------------------------------

// Scratch for the rows of a plane, in whole vectors: no loop over lanes then has a remainder.
template <typename T>
struct PlaneRow {
  static constexpr int64_t kLanes = 64 / sizeof(T);
  int64_t stride, pad, lanes, length;
  std::vector<T> best, phases;
  std::vector<Index<T>> winner, first_tap;  // first_tap: of each window, inside the input

  explicit PlaneRow(const PoolSizes& s)
      : stride(s.stride_w),
        pad(s.pad_w),
        lanes((s.out_width + kLanes - 1) / kLanes * kLanes),
        length(lanes + s.kernel_w / stride + s.width / stride + 2),
        best(lanes),
        phases(stride * length, -std::numeric_limits<T>::infinity()),
        winner(lanes),
        first_tap(lanes) {
    for (int64_t j = 0; j < s.out_width; ++j) {
      first_tap[j] =
          static_cast<Index<T>>(taps_inside(j, s.stride_w, s.pad_w, s.kernel_w, s.width).first);
    }
  }

  // Where column `column` of the padded row is, in its phase.  The next element of the phase is
  // `stride` columns further: the same tap of the next window.
  T* phase(int64_t column) { return phases.data() + column % stride * length + column / stride; }

  CAFFE_COMPAT_INLINE void read(const T* __restrict row, int64_t width) {
    for (int64_t first = 0; first < stride; ++first) {
      T* __restrict to = phase(first + pad);
      const int64_t count = (width - first + stride - 1) / stride;
      if (stride == 2) {  // known to the compiler, which then splits in registers
        for (int64_t i = 0; i < count; ++i) to[i] = row[first + i * 2];
      } else {
        for (int64_t i = 0; i < count; ++i) to[i] = row[first + i * stride];
      }
    }
  }
};

template <typename T>
CAFFE_COMPAT_INLINE void forward_plane(const T* plane, const PoolSizes& s, bool relu,
                                       PlaneRow<T>& scratch, T* y, uint8_t* tap) {
  T* __restrict best = scratch.best.data();
  Index<T>* __restrict winner = scratch.winner.data();
  for (int64_t row = 0; row < s.out_height; ++row, y += s.out_width, tap += s.out_width) {
    const Span down = taps_inside(row, s.stride_h, s.pad_h, s.kernel_h, s.height);
    const auto first_row = static_cast<Index<T>>(down.first * s.kernel_w);
    for (int64_t j = 0; j < scratch.lanes; ++j) {
      best[j] = relu ? T(0) : -std::numeric_limits<T>::infinity();
      winner[j] = relu ? Index<T>(kNoTap) : first_row + scratch.first_tap[j];
    }
    for (int64_t kh = down.first; kh < down.last; ++kh) {
      scratch.read(plane + (row * s.stride_h - s.pad_h + kh) * s.width, s.width);
      for (int64_t kw = 0; kw < s.kernel_w; ++kw) {
        offer(scratch.phase(kw), kh * s.kernel_w + kw, scratch.lanes, best, winner);
      }
    }
    std::copy(best, best + s.out_width, y);
    narrow<T>(winner, s.out_width, tap);
  }
}

// Scratch for planes whose rows are shorter than a vector: the windows of a whole plane side by
// side, `pitch` to a row, with room at its end for the taps beyond the last window.
//
//   phase (row modulo stride, column modulo stride): a plane of rows of `pitch`, in which the same
//   tap of the next window is the next element, and that of the next row of windows `pitch` further
template <typename T>
struct SmallPlane {
  static constexpr int64_t kLanes = 64 / sizeof(T);
  int64_t pitch, rows, lanes, length;
  std::vector<T> best, phases;
  std::vector<Index<T>> winner, first_tap;  // first_tap: of each window, inside the input
  std::vector<uint8_t> taps;

  explicit SmallPlane(const PoolSizes& s)
      : pitch(s.out_width + (s.kernel_w - 1) / s.stride_w),
        rows(s.out_height + (s.kernel_h - 1) / s.stride_h),
        lanes((s.out_height * pitch + kLanes - 1) / kLanes * kLanes),
        length(rows * pitch + 2 * kLanes),
        best(lanes),
        phases(s.stride_h * s.stride_w * length, -std::numeric_limits<T>::infinity()),
        winner(lanes),
        first_tap(lanes),
        taps(lanes) {
    for (int64_t i = 0; i < s.out_height; ++i) {
      const int64_t row = taps_inside(i, s.stride_h, s.pad_h, s.kernel_h, s.height).first;
      for (int64_t j = 0; j < s.out_width; ++j) {
        const int64_t column = taps_inside(j, s.stride_w, s.pad_w, s.kernel_w, s.width).first;
        first_tap[i * pitch + j] = static_cast<Index<T>>(row * s.kernel_w + column);
      }
    }
  }

  // Strides beyond the kernel would make phases that no tap reads, and as many as the stride has.
  static bool is_for(const PoolSizes& s) {
    return s.out_width < kLanes && s.stride_h <= s.kernel_h && s.stride_w <= s.kernel_w;
  }

  // Where tap (row, column) of the first window is, in its phase.
  T* tap(const PoolSizes& s, int64_t row, int64_t column) {
    const int64_t phase = row % s.stride_h * s.stride_w + column % s.stride_w;
    return phases.data() + phase * length + row / s.stride_h * pitch + column / s.stride_w;
  }

  CAFFE_COMPAT_INLINE void read(const T* plane, const PoolSizes& s) {
    const int64_t last_row = std::min(s.height, rows * s.stride_h - s.pad_h);
    const int64_t last_column = std::min(s.width, pitch * s.stride_w - s.pad_w);
    for (int64_t h = 0; h < last_row; ++h) {
      const T* __restrict row = plane + h * s.width;
      for (int64_t first = 0; first < s.stride_w; ++first) {
        T* __restrict to = tap(s, h + s.pad_h, first + s.pad_w);
        const int64_t count = (last_column - first + s.stride_w - 1) / s.stride_w;
        for (int64_t i = 0; i < count; ++i) to[i] = row[first + i * s.stride_w];
      }
    }
  }
};

template <typename T>
CAFFE_COMPAT_INLINE void forward_small_plane(const T* plane, const PoolSizes& s, bool relu,
                                             SmallPlane<T>& scratch, T* y, uint8_t* tap) {
  T* __restrict best = scratch.best.data();
  Index<T>* __restrict winner = scratch.winner.data();
  for (int64_t i = 0; i < scratch.lanes; ++i) {
    best[i] = relu ? T(0) : -std::numeric_limits<T>::infinity();
    winner[i] = relu ? Index<T>(kNoTap) : scratch.first_tap[i];
  }
  scratch.read(plane, s);
  for (int64_t kh = 0; kh < s.kernel_h; ++kh) {
    for (int64_t kw = 0; kw < s.kernel_w; ++kw) {
      offer(scratch.tap(s, kh, kw), kh * s.kernel_w + kw, scratch.lanes, best, winner);
    }
  }
  narrow<T>(winner, scratch.lanes, scratch.taps.data());
  for (int64_t row = 0; row < s.out_height; ++row) {
    std::copy_n(best + row * scratch.pitch, s.out_width, y + row * s.out_width);
    std::copy_n(scratch.taps.data() + row * scratch.pitch, s.out_width, tap + row * s.out_width);
  }
}

// Adds one window after the other: each touches a single element.
template <typename T>
void backward_plane(const T* dy, const uint8_t* tap, T* dx, const PoolSizes& s) {
  std::fill(dx, dx + s.pixels(), T(0));
  int64_t offset[kNoTap + 1];
  offset[kNoTap] = 0;
  for (int64_t t = 0; t < s.taps(); ++t) offset[t] = t / s.kernel_w * s.width + t % s.kernel_w;
  for (int64_t i = 0; i < s.out_height; ++i) {
    const int64_t row = (i * s.stride_h - s.pad_h) * s.width - s.pad_w;
    for (int64_t j = 0; j < s.out_width; ++j) {
      const int64_t place = i * s.out_width + j;
      // Where no tap won, 0 is added somewhere: whether one did cannot be foretold, and a wrong
      // guess of the processor costs more.
      const bool won = tap[place] != kNoTap;
      const int64_t winner = row + j * s.stride_w + offset[tap[place]];
      dx[won ? winner : 0] += won ? dy[place] : T(0);
    }
  }
}

// ---- versions and threads -----------------------------------------------------------------------

#define CAFFE_COMPAT_POOL_VERSIONS(T)                                                              \
  CAFFE_COMPAT_MULTIVERSION void forward_rows(const T* image, int64_t row, const PoolSizes& s,     \
                                              bool relu, Index<T>* winner, T* y, uint8_t* tap) {   \
    forward_pixels(image, row, s, relu, winner, y, tap);                                           \
  }                                                                                                \
  CAFFE_COMPAT_MULTIVERSION void forward_planes(const T* plane, const PoolSizes& s, bool relu,     \
                                                PlaneRow<T>& scratch, T* y, uint8_t* tap) {        \
    forward_plane(plane, s, relu, scratch, y, tap);                                                \
  }                                                                                                \
  CAFFE_COMPAT_MULTIVERSION void forward_small_planes(                                             \
      const T* plane, const PoolSizes& s, bool relu, SmallPlane<T>& scratch, T* y, uint8_t* tap) { \
    forward_small_plane(plane, s, relu, scratch, y, tap);                                          \
  }                                                                                                \
  CAFFE_COMPAT_MULTIVERSION void backward_rows(const T* dy, const uint8_t* tap, int64_t row,       \
                                               const PoolSizes& s, T* dx) {                        \
    backward_pixels(dy, tap, row, s, dx);                                                          \
  }
CAFFE_COMPAT_POOL_VERSIONS(float)
CAFFE_COMPAT_POOL_VERSIONS(double)
#undef CAFFE_COMPAT_POOL_VERSIONS

// Calls task(begin, end) for parts of [0, count), on all threads.
template <typename Task>
void for_each_part(int64_t count, int64_t elements_each, const Task& task) {
  const int64_t grain =
      std::max<int64_t>(1, kElementsPerTask / std::max<int64_t>(1, elements_each));
  at::parallel_for(0, count, grain, task);
}

}  // namespace

template <typename T>
void max_pool_forward_cpu(const T* x, T* y, uint8_t* tap, const PoolSizes& s, bool relu) {
  if (s.channels_last) {
    const int64_t row = s.out_width * s.channels;
    for_each_part(s.batch * s.out_height, row * s.taps(), [&](int64_t begin, int64_t end) {
      std::vector<Index<T>> winner(s.channels);
      for (int64_t i = begin; i < end; ++i) {
        const T* image = x + i / s.out_height * s.pixels() * s.channels;
        forward_rows(image, i % s.out_height, s, relu, winner.data(), y + i * row, tap + i * row);
      }
    });
  } else {
    const int64_t planes = s.batch * s.channels, out = s.out_pixels();
    for_each_part(planes, out * s.taps(), [&](int64_t begin, int64_t end) {
      if (SmallPlane<T>::is_for(s)) {
        SmallPlane<T> scratch(s);
        for (int64_t i = begin; i < end; ++i) {
          forward_small_planes(x + i * s.pixels(), s, relu, scratch, y + i * out, tap + i * out);
        }
        return;
      }
      PlaneRow<T> scratch(s);
      for (int64_t i = begin; i < end; ++i) {
        forward_planes(x + i * s.pixels(), s, relu, scratch, y + i * out, tap + i * out);
      }
    });
  }
}

template <typename T>
void max_pool_backward_cpu(const T* dy, const uint8_t* tap, T* dx, const PoolSizes& s) {
  if (s.channels_last) {
    const int64_t row = s.width * s.channels, out = s.out_pixels() * s.channels;
    for_each_part(s.batch * s.height, 2 * row, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t n = i / s.height;
        backward_rows(dy + n * out, tap + n * out, i % s.height, s, dx + i * row);
      }
    });
  } else {
    const int64_t planes = s.batch * s.channels, out = s.out_pixels();
    for_each_part(planes, s.pixels() + out, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        backward_plane(dy + i * out, tap + i * out, dx + i * s.pixels(), s);
      }
    });
  }
}

template void max_pool_forward_cpu(const float*, float*, uint8_t*, const PoolSizes&, bool);
template void max_pool_forward_cpu(const double*, double*, uint8_t*, const PoolSizes&, bool);
template void max_pool_backward_cpu(const float*, const uint8_t*, float*, const PoolSizes&);
template void max_pool_backward_cpu(const double*, const uint8_t*, double*, const PoolSizes&);

}  // namespace caffe_compat
