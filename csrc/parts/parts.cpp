// torch.ops.caffe_compat.bias_relu_parts and its gradient: their schemas.  The CPU side and the
// fake kernels are in caffe_compat/ops/parts.py.

#include <torch/library.h>

TORCH_LIBRARY_FRAGMENT(caffe_compat, m) {
  // Input plus bias, then max(., 0) with relu, from one or more parts of the channels to `groups`.
  m.def("bias_relu_parts(Tensor[] input, Tensor? bias, bool relu, int groups) -> Tensor[]");
  // The gradients of the input, times `scale`, in `groups` parts, and of the bias.
  m.def(
      "bias_relu_parts_backward(Tensor[] grad, Tensor[] output, bool relu, int groups, "
      "float scale=1.0) -> (Tensor[], Tensor)");
}
