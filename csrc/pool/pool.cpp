// torch.ops.caffe_compat.max_pool and relu_pool_lrn with their gradients: schemas.  Autograd and
// fake kernels are in caffe_compat/ops/pool.py.

#include <torch/library.h>

namespace caffe_compat {

TORCH_LIBRARY_FRAGMENT(caffe_compat, m) {
  // Maximum and winning tap of each window; with `relu` max(input, 0) goes into the windows.
  m.def(
      "max_pool(Tensor input, int[2] kernel, int[2] stride, int[2] padding, int[2] out_size, bool "
      "relu) -> (Tensor output, Tensor tap)");
  m.def(
      "max_pool_backward(Tensor grad, Tensor tap, SymInt height, SymInt width, int[2] kernel, "
      "int[2] stride, int[2] padding) -> Tensor");
  // LRN across channels of max_pool's output; also that output, and the winning taps.
  m.def(
      "relu_pool_lrn(Tensor input, int[2] kernel, int[2] stride, int[2] padding, int[2] out_size, "
      "bool relu, int local_size, float alpha, float beta, float k) -> (Tensor output, Tensor "
      "pooled, Tensor tap)");
  m.def(
      "relu_pool_lrn_backward(Tensor grad, Tensor pooled, Tensor tap, SymInt height, SymInt width, "
      "int[2] kernel, int[2] stride, int[2] padding, int local_size, float alpha, float beta, "
      "float k) -> Tensor");
}

}  // namespace caffe_compat
