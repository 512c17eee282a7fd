// The Python module caffe_compat._C.  Importing it loads the operator library
// torch.ops.caffe_compat, to which each folder adds its operators with TORCH_LIBRARY_FRAGMENT;
// folders with plain Python bindings are called here.

#include <pybind11/pybind11.h>
#include <torch/library.h>

TORCH_LIBRARY(caffe_compat, m) {}

void bind_datum_batch(pybind11::module_& m);
void bind_random(pybind11::module_& m);

PYBIND11_MODULE(_C, m) {
  m.doc() =
      "caffe_compat's compiled part: operators in torch.ops.caffe_compat, and the bindings below.";
#ifdef CAFFE_COMPAT_WITH_CUDA
  m.attr("has_cuda") = true;
#else
  m.attr("has_cuda") = false;
#endif
  bind_datum_batch(m);
  bind_random(m);
}
