// The floating types that the CUDA kernels on channels in parts have.
#pragma once

#include <ATen/Dispatch.h>
#include <ATen/core/Tensor.h>

namespace caffe_compat {

template <typename Run>
void run_for_parts_type(const at::Tensor& input, const Run& run) {
  AT_DISPATCH_SWITCH(input.scalar_type(), "channels in parts",
                     AT_DISPATCH_CASE(at::kFloat, [&] { run(scalar_t{}); })
                         AT_DISPATCH_CASE(at::kHalf, [&] { run(scalar_t{}); })
                             AT_DISPATCH_CASE(at::kBFloat16, [&] { run(scalar_t{}); }));
}

}  // namespace caffe_compat
