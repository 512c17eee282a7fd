// The channels_last kernels on tensors: layouts, workspaces and types.

#include <ATen/Dispatch.h>
#include <ATen/cuda/CUDAContext.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include "conv/nhwc/nhwc_cuda.h"
#include "conv/nhwc/nhwc_kernels.cuh"

namespace caffe_compat {
namespace {

// AT_DISPATCH knows no set without double.
#define DISPATCH_NHWC(type, name, ...)                                           \
  AT_DISPATCH_SWITCH(type, name,                                                 \
                     AT_DISPATCH_CASE(at::kFloat, __VA_ARGS__) AT_DISPATCH_CASE( \
                         at::kHalf, __VA_ARGS__) AT_DISPATCH_CASE(at::kBFloat16, __VA_ARGS__))

// Dense in pixels, from an address that 16-byte accesses can start at.
at::Tensor channels_last(const at::Tensor& tensor) {
  const at::Tensor dense = tensor.contiguous(at::MemoryFormat::ChannelsLast);
  const bool aligned = reinterpret_cast<uintptr_t>(dense.const_data_ptr()) % 16 == 0;
  return aligned ? dense : dense.clone(at::MemoryFormat::ChannelsLast);
}

bool is_channels_last(const at::Tensor& weight) {
  return weight.is_contiguous(at::MemoryFormat::ChannelsLast);
}

at::Tensor empty_images(int64_t n, int64_t c, int64_t h, int64_t w, const at::Tensor& like) {
  return at::empty({n, c, h, w}, like.options(), at::MemoryFormat::ChannelsLast);
}

}  // namespace

bool conv_nhwc_takes(const ConvSizes& s, at::ScalarType type) {
  if (type == at::kFloat) return nhwc_fits<float>(s);
  return (type == at::kHalf || type == at::kBFloat16) && nhwc_fits<at::Half>(s);
}

at::Tensor conv_nhwc(const at::Tensor& input, const at::Tensor& weight,
                     const std::optional<at::Tensor>& bias, const ConvSizes& s, bool relu,
                     ConvMath math) {
  const at::Tensor x = channels_last(input), b = bias ? bias->contiguous() : at::Tensor();
  const bool last = is_channels_last(weight);
  const at::Tensor w = last ? weight : weight.contiguous();
  const at::Tensor y = empty_images(s.batch, s.outputs, s.out_height, s.out_width, x);
  DISPATCH_NHWC(x.scalar_type(), "conv_nhwc", [&] {
    const at::Tensor repacked =
        at::empty({conv_nhwc_repacked_count<scalar_t>(s, math, false)}, w.options());
    conv_nhwc_forward_cuda(
        x.const_data_ptr<scalar_t>(), w.const_data_ptr<scalar_t>(), last,
        repacked.mutable_data_ptr<scalar_t>(), bias ? b.const_data_ptr<scalar_t>() : nullptr,
        y.mutable_data_ptr<scalar_t>(), s, relu, math, at::cuda::getCurrentCUDAStream());
  });
  return y;
}

at::Tensor conv_nhwc_input_grad(const at::Tensor& grad, const at::Tensor& weight,
                                const ConvSizes& s, ConvMath math) {
  const at::Tensor dy = channels_last(grad);
  const bool last = is_channels_last(weight);
  const at::Tensor w = last ? weight : weight.contiguous();
  const at::Tensor dx = empty_images(s.batch, s.channels, s.height, s.width, dy);
  DISPATCH_NHWC(dy.scalar_type(), "conv_nhwc_input_grad", [&] {
    const at::Tensor repacked =
        at::empty({conv_nhwc_repacked_count<scalar_t>(s, math, true)}, w.options());
    conv_nhwc_input_grad_cuda(dy.const_data_ptr<scalar_t>(), w.const_data_ptr<scalar_t>(), last,
                              repacked.mutable_data_ptr<scalar_t>(),
                              dx.mutable_data_ptr<scalar_t>(), s, math,
                              at::cuda::getCurrentCUDAStream());
  });
  return dx;
}

at::Tensor conv_nhwc_weight_grad(const at::Tensor& grad, const at::Tensor& input,
                                 const ConvSizes& s, ConvMath math) {
  const at::Tensor dy = channels_last(grad), x = channels_last(input);
  const at::Tensor dw =
      at::empty({s.outputs, s.group_channels(), s.kernel_h, s.kernel_w}, dy.options());
  DISPATCH_NHWC(dy.scalar_type(), "conv_nhwc_weight_grad", [&] {
    const at::Tensor partial =
        at::empty({conv_nhwc_weight_grad_splits<scalar_t>(s, math) * dw.numel()},
                  dy.options().dtype(at::kFloat));
    conv_nhwc_weight_grad_cuda(dy.const_data_ptr<scalar_t>(), x.const_data_ptr<scalar_t>(),
                               dw.mutable_data_ptr<scalar_t>(), partial.mutable_data_ptr<float>(),
                               s, math, at::cuda::getCurrentCUDAStream());
  });
  return dw;
}

}  // namespace caffe_compat
