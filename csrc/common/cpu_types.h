// The floating types that the CPU kernels have.
#pragma once

#include <ATen/core/Tensor.h>

#include "common/tensor_checks.h"

namespace caffe_compat {

// Calls run(float{}) or run(double{}), whichever `input` has; TypeError for anything else.
template <typename Run>
void run_for_cpu_type(const char* op, const at::Tensor& input, const Run& run) {
  if (input.scalar_type() == at::kFloat) {
    run(float{});
  } else {
    CAFFE_COMPAT_CHECK_TYPE(input.scalar_type() == at::kDouble, op, ": input is ", describe(input),
                            "; expected float32 or float64 on the CPU");
    run(double{});
  }
}

}  // namespace caffe_compat
