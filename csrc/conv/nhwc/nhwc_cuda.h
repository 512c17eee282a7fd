// The channels_last kernels on tensors: they take any layout and return channels_last.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

#include "conv/conv.h"

namespace caffe_compat {

// Whether the sizes and the type fit these kernels; for others there are the NCHW kernels.
bool conv_nhwc_takes(const ConvSizes& s, at::ScalarType type);

at::Tensor conv_nhwc(const at::Tensor& input, const at::Tensor& weight,
                     const std::optional<at::Tensor>& bias, const ConvSizes& s, bool relu,
                     ConvMath math);
at::Tensor conv_nhwc_input_grad(const at::Tensor& grad, const at::Tensor& weight,
                                const ConvSizes& s, ConvMath math);
// The weight gradient is contiguous.
at::Tensor conv_nhwc_weight_grad(const at::Tensor& grad, const at::Tensor& input,
                                 const ConvSizes& s, ConvMath math);

}  // namespace caffe_compat
