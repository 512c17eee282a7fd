// What both devices do with the operators' arguments before a kernel runs.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include "common/tensor_checks.h"
#include "pool/pool.h"

namespace caffe_compat {

// The operators' flat arguments; two numbers each, for rows and columns.
struct PoolArguments {
  at::IntArrayRef kernel, stride, padding, out_size;
};

// The layout to compute in: channels last where the input has it, else (N, C, H, W).
inline at::MemoryFormat pool_layout(const at::Tensor& input) {
  return !input.is_contiguous() && input.is_contiguous(at::MemoryFormat::ChannelsLast)
             ? at::MemoryFormat::ChannelsLast
             : at::MemoryFormat::Contiguous;
}

inline PoolSizes pool_sizes(const char* op, at::IntArrayRef input, const PoolArguments& w,
                            bool channels_last) {
  CAFFE_COMPAT_CHECK_VALUE(input.size() == 4, op, ": input is ", input, "; expected 4 axes");
  CAFFE_COMPAT_CHECK_VALUE(w.kernel.size() == 2 && w.stride.size() == 2 && w.padding.size() == 2 &&
                               w.out_size.size() == 2,
                           op, ": kernel ", w.kernel, ", stride ", w.stride, ", padding ",
                           w.padding, ", out_size ", w.out_size, "; expected two numbers each");
  for (int i = 0; i < 2; ++i) {
    CAFFE_COMPAT_CHECK_VALUE(
        w.kernel[i] > 0 && w.stride[i] > 0 && w.padding[i] >= 0 && w.padding[i] < w.kernel[i] &&
            w.out_size[i] > 0,
        op, ": kernel ", w.kernel, ", stride ", w.stride, ", padding ", w.padding, ", out_size ",
        w.out_size, "; expected kernel, stride and size of at least 1, padding below the kernel");
    CAFFE_COMPAT_CHECK_VALUE((w.out_size[i] - 1) * w.stride[i] - w.padding[i] < input[2 + i], op,
                             ": the last window starts outside the input ", input, " (kernel ",
                             w.kernel, ", stride ", w.stride, ", padding ", w.padding,
                             ", out_size ", w.out_size, ")");
  }
  CAFFE_COMPAT_CHECK_VALUE(w.kernel[0] * w.kernel[1] <= kMostTaps, op, ": kernel ", w.kernel,
                           " has ", w.kernel[0] * w.kernel[1], " taps; expected at most ",
                           kMostTaps);
  return {.batch = input[0],
          .channels = input[1],
          .height = input[2],
          .width = input[3],
          .out_height = w.out_size[0],
          .out_width = w.out_size[1],
          .kernel_h = w.kernel[0],
          .kernel_w = w.kernel[1],
          .stride_h = w.stride[0],
          .stride_w = w.stride[1],
          .pad_h = w.padding[0],
          .pad_w = w.padding[1],
          .channels_last = channels_last};
}

// The dense input, and output and tap in its layout, not yet filled.
struct PoolOutputs {
  PoolSizes sizes;
  at::Tensor input, output, tap;
};

inline PoolOutputs pool_outputs(const char* op, const at::Tensor& input,
                                const PoolArguments& window) {
  check_rank(op, "input", input, 4);
  const at::MemoryFormat layout = pool_layout(input);
  PoolOutputs out;
  out.sizes = pool_sizes(op, input.sizes(), window, layout == at::MemoryFormat::ChannelsLast);
  out.input = input.contiguous(layout);
  const int64_t shape[] = {out.sizes.batch, out.sizes.channels, out.sizes.out_height,
                           out.sizes.out_width};
  out.output = at::empty(shape, input.options().memory_format(layout));
  out.tap = at::empty(shape, input.options().dtype(at::kByte).memory_format(layout));
  return out;
}

// The dense gradient of the output in tap's layout, and the input's gradient, not yet filled.
struct PoolGradient {
  PoolSizes sizes;
  at::Tensor grad, tap, input_grad;
};

// `window.out_size` is not read: the shape of tap states it.
inline PoolGradient pool_gradient(const char* op, const at::Tensor& grad, const at::Tensor& tap,
                                  int64_t height, int64_t width, PoolArguments window) {
  check_rank(op, "tap", tap, 4);
  check_same_shape(op, "grad", grad, "tap", tap);
  CAFFE_COMPAT_CHECK_VALUE(tap.scalar_type() == at::kByte && tap.device() == grad.device(), op,
                           ": tap is ", describe(tap), "; expected uint8 on ", grad.device());
  const at::MemoryFormat layout = pool_layout(tap);
  const int64_t shape[] = {tap.size(0), tap.size(1), height, width};
  window.out_size = tap.sizes().slice(2);
  PoolGradient g;
  g.sizes = pool_sizes(op, shape, window, layout == at::MemoryFormat::ChannelsLast);
  g.grad = grad.contiguous(layout);
  g.tap = tap.contiguous(layout);
  g.input_grad = at::empty(shape, grad.options().memory_format(layout));
  return g;
}

}  // namespace caffe_compat
