// Checks of operator arguments.  Each failure prints the shapes and dtypes that came.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>

#include <sstream>
#include <string>

namespace caffe_compat {

// "Float [2, 3, 4] on cpu", for error texts.
inline std::string describe(const at::Tensor& tensor) {
  std::ostringstream text;
  text << tensor.scalar_type() << ' ' << tensor.sizes() << " on " << tensor.device();
  return text.str();
}

inline void check_rank(const char* op, const char* name, const at::Tensor& tensor, int64_t rank) {
  TORCH_CHECK_VALUE(tensor.dim() == rank, op, ": ", name, " is ", describe(tensor), "; expected ",
                    rank, " axes");
}

inline void check_same_type(const char* op, const char* name, const at::Tensor& tensor,
                            const char* other_name, const at::Tensor& other) {
  TORCH_CHECK_VALUE(
      tensor.scalar_type() == other.scalar_type() && tensor.device() == other.device(), op, ": ",
      name, " is ", describe(tensor), " but ", other_name, " is ", describe(other),
      "; expected the same dtype and device");
}

inline void check_same_shape(const char* op, const char* name, const at::Tensor& tensor,
                             const char* other_name, const at::Tensor& other) {
  TORCH_CHECK_VALUE(tensor.sizes() == other.sizes(), op, ": ", name, " is ", describe(tensor),
                    " but ", other_name, " is ", describe(other), "; expected the same shape");
}

}  // namespace caffe_compat
