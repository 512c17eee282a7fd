// torch.ops.caffe_compat.space_to_depth: its schema.  The CPU side and the fake kernel are in
// caffe_compat/ops/space_to_depth.py.

#include <torch/library.h>

TORCH_LIBRARY_FRAGMENT(caffe_compat, m) {
  // Blocks of pixels as channels, channels_last, in another dtype: see space_to_depth.h.
  m.def(
      "space_to_depth(Tensor input, int block, int[2] padding, int[2] out_size, ScalarType dtype) "
      "-> Tensor");
}
