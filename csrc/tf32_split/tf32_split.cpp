// torch.ops.caffe_compat.tf32_split: its schema.  The CPU side and the fake kernel are in
// caffe_compat/ops/tf32_split.py.

#include <torch/library.h>

TORCH_LIBRARY_FRAGMENT(caffe_compat, m) {
  // High and low parts of float32 numbers along an axis: see tf32_split_kernels.cuh.
  m.def("tf32_split(Tensor input, str order, int axis, int groups) -> Tensor");
}
