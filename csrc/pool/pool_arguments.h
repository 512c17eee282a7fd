// What both devices do with the operators' arguments before a kernel runs.
#pragma once

#include <ATen/core/Tensor.h>

#include "common/checks.h"
#include "pool/pool.h"

namespace caffe_compat {

struct PoolWindow {
  at::IntArrayRef kernel, stride, padding, out_size;
};

// The layout to compute in: channels last where the input has it, else (N, C, H, W).
inline at::MemoryFormat pool_layout(const at::Tensor& input) {
  return !input.is_contiguous() && input.is_contiguous(at::MemoryFormat::ChannelsLast)
             ? at::MemoryFormat::ChannelsLast
             : at::MemoryFormat::Contiguous;
}

inline PoolSizes pool_sizes(const char* op, at::IntArrayRef input, const PoolWindow& w,
                            bool channels_last) {
  TORCH_CHECK_VALUE(input.size() == 4, op, ": input is ", input, "; expected 4 axes");
  TORCH_CHECK_VALUE(w.kernel.size() == 2 && w.stride.size() == 2 && w.padding.size() == 2 &&
                        w.out_size.size() == 2,
                    op, ": kernel ", w.kernel, ", stride ", w.stride, ", padding ", w.padding,
                    ", out_size ", w.out_size, "; expected two numbers each");
  for (int i = 0; i < 2; ++i) {
    TORCH_CHECK_VALUE(w.kernel[i] > 0 && w.stride[i] > 0 && w.padding[i] >= 0 &&
                          w.padding[i] < w.kernel[i] && w.out_size[i] > 0,
                      op, ": kernel ", w.kernel, ", stride ", w.stride, ", padding ", w.padding,
                      ", out_size ", w.out_size,
                      "; expected kernel, stride and size of at least 1, padding below the kernel");
    TORCH_CHECK_VALUE((w.out_size[i] - 1) * w.stride[i] - w.padding[i] < input[2 + i], op,
                      ": the last window starts outside the input ", input, " (kernel ", w.kernel,
                      ", stride ", w.stride, ", padding ", w.padding, ", out_size ", w.out_size,
                      ")");
  }
  TORCH_CHECK_VALUE(w.kernel[0] * w.kernel[1] <= kMostTaps, op, ": kernel ", w.kernel, " has ",
                    w.kernel[0] * w.kernel[1], " taps; expected at most ", kMostTaps);
  return {input[0],      input[1],     input[2],     input[3],    w.out_size[0],
          w.out_size[1], w.kernel[0],  w.kernel[1],  w.stride[0], w.stride[1],
          w.padding[0],  w.padding[1], channels_last};
}

}  // namespace caffe_compat
