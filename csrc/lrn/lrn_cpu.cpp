// The CPU kernels of LRN.  Both layouts and both regions are one case here, a "sheet": rows of
// lanes, which are independent of each other and fill the vector registers.
//
//                    row      lanes              window over
//   across, NCHW     channel  pixels of a tile   rows
//   across, NHWC     pixel    channels           lanes, 1 apart
//   within, NCHW     y        x                  rows and lanes, 1 apart
//   within, NHWC     y        x and channel      rows and lanes, `channels` apart
//
// A sheet is walked once, row by row.  Only the rows of the present windows are needed, and they
// stay in the L1 cache.

#include "lrn/lrn_cpu.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <type_traits>
#include <vector>

#include "common/multiversion.h"

namespace caffe_compat {
namespace {

constexpr int64_t kTileLanes = 128;          // NCHW, across: pixels per sheet
constexpr int64_t kRowsPerTask = 64;         // NHWC, across: pixels per sheet
constexpr int64_t kElementsPerTask = 16384;  // for fewer, waking a thread costs more than it saves

struct Sheet {
  int64_t rows, lanes, row_stride;
  bool over_rows;
  int64_t lane_shift;  // distance of window neighbours among lanes; 0: no window over lanes
};

template <typename T>
struct SheetConstants {
  T offset, coefficient, beta, gradient;
  int64_t reach;

  SheetConstants(const LrnParams& p, const LrnShape& s)
      : offset(static_cast<T>(p.offset())),
        coefficient(static_cast<T>(p.coefficient())),
        beta(static_cast<T>(p.beta)),
        gradient(static_cast<T>(2 * p.coefficient() * p.beta)),
        // Beyond the size of the array a longer reach sums nothing more.
        reach(std::min(p.reach(),
                       (p.within_channel ? std::max(s.height, s.width) : s.channels) - 1)) {}
};

// Scratch space of one task: rows with zero margins for the window over lanes, and for the backward
// pass a ring of as many rows as a window has.
template <typename T>
struct SheetScratch {
  int64_t margin, lanes, ring_rows;
  std::vector<T> memory;

  SheetScratch(const Sheet& sheet, int64_t reach)
      : margin(reach * sheet.lane_shift),
        lanes(sheet.lanes),
        ring_rows(sheet.over_rows ? 2 * reach + 1 : 1),
        memory(2 * (lanes + 2 * margin) + (1 + ring_rows) * lanes, T(0)) {}
  T* padded_squares() { return memory.data() + margin; }
  T* padded_ratios() { return padded_squares() + lanes + 2 * margin; }
  T* sums() { return padded_ratios() + lanes + margin; }
  T* ring(int64_t row) { return sums() + lanes * (1 + row % ring_rows); }
};

// to[i] = sum of from[i + j * shift] for j in -reach..reach; `from` has zero margins.
template <typename T>
CAFFE_COMPAT_INLINE void sum_over_lanes(const T* __restrict from, T* __restrict to, int64_t lanes,
                                        int64_t reach, int64_t shift) {
  const T* first = from - reach * shift;
  for (int64_t i = 0; i < lanes; ++i) to[i] = first[i];
  for (int64_t j = 1; j <= 2 * reach; ++j) {
    const T* term = first + j * shift;
    for (int64_t i = 0; i < lanes; ++i) to[i] += term[i];
  }
}

template <typename T>
CAFFE_COMPAT_INLINE void add_squares(const T* __restrict x, T* __restrict sums, int64_t lanes) {
  for (int64_t i = 0; i < lanes; ++i) sums[i] += x[i] * x[i];
}

// Sum of squares over the window of every lane of `row`; the result stays in scratch.
template <typename T>
CAFFE_COMPAT_INLINE const T* window_sums(const T* x, const Sheet& s, int64_t row, int64_t reach,
                                         SheetScratch<T>& scratch) {
  const int64_t first = s.over_rows ? std::max<int64_t>(row - reach, 0) : row;
  const int64_t last = s.over_rows ? std::min(row + reach, s.rows - 1) : row;
  T* __restrict squares = scratch.padded_squares();
  const T* __restrict from = x + first * s.row_stride;
  int64_t next = first + 1;
  if (last - first == 4) {  // a window of 5 that is not clipped: the usual case, in one loop
    const T *b = from + s.row_stride, *c = b + s.row_stride, *d = c + s.row_stride,
            *e = d + s.row_stride;
    for (int64_t i = 0; i < s.lanes; ++i) {
      squares[i] = from[i] * from[i] + b[i] * b[i] + c[i] * c[i] + d[i] * d[i] + e[i] * e[i];
    }
    next = last + 1;
  } else {
    for (int64_t i = 0; i < s.lanes; ++i) squares[i] = from[i] * from[i];
  }
  for (; next <= last; ++next) add_squares(x + next * s.row_stride, squares, s.lanes);
  if (s.lane_shift == 0) return squares;
  sum_over_lanes(squares, scratch.sums(), s.lanes, reach, s.lane_shift);
  return scratch.sums();
}

template <LrnPower power, typename T>
CAFFE_COMPAT_INLINE void forward_rows(const T* x, T* y, const Sheet& s, const SheetConstants<T>& c,
                                      SheetScratch<T>& scratch) {
  for (int64_t row = 0; row < s.rows; ++row) {
    const T* __restrict sums = window_sums(x, s, row, c.reach, scratch);
    const T* __restrict in = x + row * s.row_stride;
    T* __restrict out = y + row * s.row_stride;
    const T offset = c.offset, coefficient = c.coefficient, beta = c.beta;
    for (int64_t i = 0; i < s.lanes; ++i) {
      out[i] = in[i] * lrn_raise<power>(T(1) / (offset + coefficient * sums[i]), beta);
    }
  }
}

// dx = dy scale^-beta - 2 coefficient beta x (sum over the window of dy y / scale).
template <LrnPower power, typename T>
CAFFE_COMPAT_INLINE void backward_rows(const T* dy, const T* x, T* dx, const Sheet& s,
                                       const SheetConstants<T>& c, SheetScratch<T>& scratch) {
  const int64_t behind = s.over_rows ? c.reach : 0;  // rows of ratios needed after the current one
  for (int64_t row = 0; row < s.rows + behind; ++row) {
    if (row < s.rows) {
      const T* __restrict sums = window_sums(x, s, row, c.reach, scratch);
      const T* __restrict in = x + row * s.row_stride;
      const T* __restrict grad = dy + row * s.row_stride;
      T* __restrict direct = dx + row * s.row_stride;
      T* __restrict ratios = s.lane_shift ? scratch.padded_ratios() : scratch.ring(row);
      const T offset = c.offset, coefficient = c.coefficient, beta = c.beta;
      for (int64_t i = 0; i < s.lanes; ++i) {
        const T inverse = T(1) / (offset + coefficient * sums[i]);
        const T term = grad[i] * lrn_raise<power>(inverse, beta);
        direct[i] = term;
        ratios[i] = term * in[i] * inverse;
      }
      if (s.lane_shift) sum_over_lanes(ratios, scratch.ring(row), s.lanes, c.reach, s.lane_shift);
    }
    const int64_t done = row - behind;
    if (done < 0) continue;
    const int64_t first = std::max<int64_t>(done - behind, 0);
    const int64_t last = std::min(done + behind, s.rows - 1);
    T* __restrict total = scratch.sums();
    for (int64_t r = first; r <= last; ++r) {
      const T* __restrict ratios = scratch.ring(r);
      if (r == first) {
        for (int64_t i = 0; i < s.lanes; ++i) total[i] = ratios[i];
      } else {
        for (int64_t i = 0; i < s.lanes; ++i) total[i] += ratios[i];
      }
    }
    const T* __restrict in = x + done * s.row_stride;
    T* __restrict out = dx + done * s.row_stride;
    const T gradient = c.gradient;
    for (int64_t i = 0; i < s.lanes; ++i) out[i] -= gradient * in[i] * total[i];
  }
}

#define CAFFE_COMPAT_LRN_POWERS(call)                        \
  switch (power) {                                           \
    case LrnPower::kHalf:                                    \
      call<LrnPower::kHalf>(CAFFE_COMPAT_LRN_ARGS);          \
      break;                                                 \
    case LrnPower::kThreeQuarters:                           \
      call<LrnPower::kThreeQuarters>(CAFFE_COMPAT_LRN_ARGS); \
      break;                                                 \
    case LrnPower::kOne:                                     \
      call<LrnPower::kOne>(CAFFE_COMPAT_LRN_ARGS);           \
      break;                                                 \
    case LrnPower::kAny:                                     \
      call<LrnPower::kAny>(CAFFE_COMPAT_LRN_ARGS);           \
      break;                                                 \
  }

#define CAFFE_COMPAT_LRN_SHEETS(T)                                                         \
  CAFFE_COMPAT_MULTIVERSION void forward_sheet(const T* x, T* y, const Sheet& s,           \
                                               const SheetConstants<T>& c, LrnPower power, \
                                               SheetScratch<T>& scratch) {                 \
    CAFFE_COMPAT_LRN_POWERS(forward_rows)                                                  \
  }
#define CAFFE_COMPAT_LRN_ARGS x, y, s, c, scratch
CAFFE_COMPAT_LRN_SHEETS(float)
CAFFE_COMPAT_LRN_SHEETS(double)
#undef CAFFE_COMPAT_LRN_SHEETS
#undef CAFFE_COMPAT_LRN_ARGS

#define CAFFE_COMPAT_LRN_SHEETS(T)                                                              \
  CAFFE_COMPAT_MULTIVERSION void backward_sheet(const T* dy, const T* x, T* dx, const Sheet& s, \
                                                const SheetConstants<T>& c, LrnPower power,     \
                                                SheetScratch<T>& scratch) {                     \
    CAFFE_COMPAT_LRN_POWERS(backward_rows)                                                      \
  }
#define CAFFE_COMPAT_LRN_ARGS dy, x, dx, s, c, scratch
CAFFE_COMPAT_LRN_SHEETS(float)
CAFFE_COMPAT_LRN_SHEETS(double)
#undef CAFFE_COMPAT_LRN_SHEETS
#undef CAFFE_COMPAT_LRN_ARGS

// Calls visit(offset of the sheet's first element, sheet) for all sheets, on all threads.
template <typename Visit>
void for_each_sheet(const LrnShape& s, bool within_channel, const Visit& visit) {
  const int64_t pixels = s.height * s.width, image = s.channels * pixels;
  if (image == 0) return;
  auto run = [](int64_t count, int64_t elements_each, const auto& task) {
    const int64_t grain =
        std::max<int64_t>(1, kElementsPerTask / std::max<int64_t>(1, elements_each));
    at::parallel_for(0, count, grain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) task(i);
    });
  };
  if (within_channel) {
    const int64_t shift = s.channels_last ? s.channels : 1, lanes = s.width * shift;
    const int64_t size = s.height * lanes;
    run(s.batch * image / size, size, [&](int64_t i) {
      visit(i * size, Sheet{.rows = s.height,
                            .lanes = lanes,
                            .row_stride = lanes,
                            .over_rows = true,
                            .lane_shift = shift});
    });
  } else if (s.channels_last) {
    const int64_t rows = s.batch * pixels;
    run((rows + kRowsPerTask - 1) / kRowsPerTask, kRowsPerTask * s.channels, [&](int64_t i) {
      const int64_t first = i * kRowsPerTask;
      visit(first * s.channels, Sheet{.rows = std::min(kRowsPerTask, rows - first),
                                      .lanes = s.channels,
                                      .row_stride = s.channels,
                                      .over_rows = false,
                                      .lane_shift = 1});
    });
  } else {
    const int64_t tiles = (pixels + kTileLanes - 1) / kTileLanes;
    run(s.batch * tiles, kTileLanes * s.channels, [&](int64_t i) {
      const int64_t first = i % tiles * kTileLanes;
      visit(i / tiles * image + first, Sheet{.rows = s.channels,
                                             .lanes = std::min(kTileLanes, pixels - first),
                                             .row_stride = pixels,
                                             .over_rows = true,
                                             .lane_shift = 0});
    });
  }
}

}  // namespace

template <typename T>
void lrn_forward_cpu(const T* x, T* y, const LrnShape& shape, const LrnParams& params) {
  const SheetConstants<T> constants(params, shape);
  const LrnPower power = lrn_power(params.beta);
  for_each_sheet(shape, params.within_channel, [&](int64_t offset, const Sheet& sheet) {
    SheetScratch<T> scratch(sheet, constants.reach);
    forward_sheet(x + offset, y + offset, sheet, constants, power, scratch);
  });
}

template <typename T>
void lrn_backward_cpu(const T* dy, const T* x, T* dx, const LrnShape& shape,
                      const LrnParams& params) {
  const SheetConstants<T> constants(params, shape);
  const LrnPower power = lrn_power(params.beta);
  for_each_sheet(shape, params.within_channel, [&](int64_t offset, const Sheet& sheet) {
    SheetScratch<T> scratch(sheet, constants.reach);
    backward_sheet(dy + offset, x + offset, dx + offset, sheet, constants, power, scratch);
  });
}

template void lrn_forward_cpu(const float*, float*, const LrnShape&, const LrnParams&);
template void lrn_forward_cpu(const double*, double*, const LrnShape&, const LrnParams&);
template void lrn_backward_cpu(const float*, const float*, float*, const LrnShape&,
                               const LrnParams&);
template void lrn_backward_cpu(const double*, const double*, double*, const LrnShape&,
                               const LrnParams&);

}  // namespace caffe_compat
