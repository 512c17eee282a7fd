// The kernels of row_conv.h for one vector set.
#pragma once

#include <algorithm>
#include <cstdint>

#include "common/small_gemm_simd.h"
#include "conv/row_conv.h"

namespace caffe_compat::CAFFE_COMPAT_SIMD {
namespace row_conv {

using S = const ConvSizes&;
constexpr int kLanes = Floats::kLanes;
// Output rows of a task of the weight gradient: few enough that their gradients stay in a core's L2
// cache.
constexpr int64_t kBand = 8;

inline int64_t row_depth(S s) { return s.kernel_w * s.channels; }
inline int64_t weight_size(S s) { return ColumnPanels(s.outputs).columns() * s.depth(); }

// Calls body(index in the packed weights) for each weight, in the order of the weight tensor.
template <typename Body>
void for_each_weight(S s, const Body& body) {
  const ColumnPanels panels(s.outputs);
  for (int64_t panel = 0; panel < panels.count(); ++panel) {
    const int64_t first = panels.first_column(panel), width = panels.width(panel) * kLanes;
    for (int64_t o = first; o < std::min(first + width, s.outputs); ++o) {
      for (int64_t c = 0; c < s.channels; ++c) {
        for (int64_t kh = 0; kh < s.kernel_h; ++kh) {
          for (int64_t kw = 0; kw < s.kernel_w; ++kw) {
            const int64_t row = (kh * s.kernel_w + kw) * s.channels + c;
            body(first * s.depth() + row * width + o - first);
          }
        }
      }
    }
  }
}

inline void pack_weights(S s, const float* weight, float* packed) {
  std::fill(packed, packed + weight_size(s), 0.f);
  for_each_weight(s, [&](int64_t to) { packed[to] = *weight++; });
}

inline void unpack_weights(S s, const float* sums, int64_t count, float* weight_grad) {
  for_each_weight(s, [&](int64_t from) {
    float sum = 0;
    for (int64_t i = 0; i < count; ++i) sum += sums[i * weight_size(s) + from];
    *weight_grad++ = sum;
  });
}

inline int64_t output_scratch(S s) { return s.out_width * 3 * kLanes; }

inline void output(S s, const RowConvOutput& p, float* scratch, TaskRange tasks) {
  const ColumnPanels panels(s.outputs);
  const Floats floor = Floats::all(p.relu ? 0.f : -__builtin_inff());
  for (int64_t task = tasks.first; task < tasks.last; ++task) {
    const int64_t n = task / s.out_height, y = task % s.out_height;
    const float* from = p.input + (n * s.height + y * s.stride_h) * s.width * s.channels;
    for (int64_t panel = 0; panel < panels.count(); ++panel) {
      const int width = panels.width(panel);
      const int64_t first = panels.first_column(panel), columns = width * kLanes;
      gemm({.a = from,
            .a_row = s.stride_w * s.channels,
            .a_step = 1,
            .b = p.packed + first * s.depth(),
            .b_step = columns,
            .depth = row_depth(s),
            .c = scratch,
            .c_row = columns,
            .parts = s.kernel_h,
            .a_part = s.dilation_h * s.width * s.channels},
           s.out_width, width);
      float* to = p.out + task * s.out_width * s.outputs + first;
      const int64_t outputs = std::min(columns, s.outputs - first);
      for (int64_t o = 0; o < outputs; o += kLanes) {
        const int count = static_cast<int>(std::min<int64_t>(kLanes, outputs - o));
        const Floats offset = p.bias ? Floats::load(p.bias + first + o, count) : Floats::zero();
        for (int64_t x = 0; x < s.out_width; ++x) {
          const Floats value = Floats::load(scratch + x * columns + o) + offset;
          // NaN comes through: max returns its second operand where one of them is NaN.
          max(floor, value).store(to + x * s.outputs + o, count);
        }
      }
    }
  }
}

inline int64_t bands(S s) { return (s.out_height + kBand - 1) / kBand; }
inline int64_t grad_tasks(S s) { return s.batch * bands(s); }
inline int64_t grad_scratch(S s) { return kBand * s.out_width * ColumnPanels(s.outputs).columns(); }

inline void add_weight_grad(S s, const float* input, const float* grad, float* sums, float* scratch,
                            TaskRange tasks) {
  const ColumnPanels panels(s.outputs);
  for (int64_t task = tasks.first; task < tasks.last; ++task) {
    const int64_t n = task / bands(s), y = task % bands(s) * kBand;
    const int64_t rows = std::min(kBand, s.out_height - y), pixels = rows * s.out_width;
    const float* grads = grad + (n * s.out_height + y) * s.out_width * s.outputs;
    const float* image = input + (n * s.height + y * s.stride_h) * s.width * s.channels;
    for (int64_t panel = 0; panel < panels.count(); ++panel) {
      const int width = panels.width(panel);
      const int64_t first = panels.first_column(panel), columns = width * kLanes;
      for (int64_t pixel = 0; pixel < pixels; ++pixel) {
        for (int v = 0; v < width; ++v) {
          const int64_t left = s.outputs - first - v * kLanes;
          const int count = static_cast<int>(std::clamp<int64_t>(left, 0, kLanes));
          Floats::load(grads + pixel * s.outputs + first + v * kLanes, count)
              .store(scratch + pixel * columns + v * kLanes);
        }
      }
      for (int64_t kh = 0; kh < s.kernel_h; ++kh) {
        gemm({.a = image + kh * s.dilation_h * s.width * s.channels,
              .a_row = 1,
              .a_step = s.stride_w * s.channels,
              .b = scratch,
              .b_step = columns,
              .depth = s.out_width,
              .c = sums + first * s.depth() + kh * row_depth(s) * columns,
              .c_row = columns,
              .add = true,
              .parts = rows,
              .a_part = s.stride_h * s.width * s.channels},
             row_depth(s), width);
      }
    }
  }
}

constexpr RowConvKernels kKernels = {.weight_size = weight_size,
                                     .pack_weights = pack_weights,
                                     .output_scratch = output_scratch,
                                     .output = output,
                                     .grad_tasks = grad_tasks,
                                     .grad_scratch = grad_scratch,
                                     .add_weight_grad = add_weight_grad,
                                     .unpack_weights = unpack_weights};

}  // namespace row_conv
}  // namespace caffe_compat::CAFFE_COMPAT_SIMD
