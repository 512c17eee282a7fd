// torch.ops.caffe_compat.pool_parts and its gradient: their schemas.  The CPU side and the fake
// kernels are in caffe_compat/ops/pool_parts.py.

#include <torch/library.h>

TORCH_LIBRARY_FRAGMENT(caffe_compat, m) {
  // Maxima of windows plus bias, ReLU and LRN, from parts of the channels to `groups` parts; with
  // local_size 0 no LRN and an empty `pooled`.
  m.def(
      "pool_parts(Tensor[] input, Tensor? bias, int[2] kernel, int[2] stride, int[2] padding, "
      "int[2] out_size, bool relu, int local_size, float alpha, float beta, float k, int groups) "
      "-> (Tensor[] output, Tensor pooled, Tensor tap)");
  m.def(
      "pool_parts_backward(Tensor[] grad, Tensor pooled, Tensor tap, SymInt height, SymInt width, "
      "int[2] kernel, int[2] stride, int[2] padding, int local_size, float alpha, float beta, "
      "float k, int groups) -> (Tensor[] input_grad, Tensor bias_grad)");
}
