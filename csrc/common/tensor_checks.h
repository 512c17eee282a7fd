// Checks of operator arguments.  Each failure prints the shapes and dtypes that came.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>

#include <string>
#include <string_view>
#include <type_traits>

// As PyTorch's checks of these names, but the parts are put together here and not through a stream:
// a stream that is made by one C++ runtime and written to by another, libtorch's, may end the
// process.
#define CAFFE_COMPAT_CHECK_VALUE(condition, ...) \
  TORCH_CHECK_VALUE(condition, caffe_compat::join(__VA_ARGS__))
#define CAFFE_COMPAT_CHECK_TYPE(condition, ...) \
  TORCH_CHECK_TYPE(condition, caffe_compat::join(__VA_ARGS__))

namespace caffe_compat {

inline void append_to(std::string& text, const char* part) { text.append(part); }
inline void append_to(std::string& text, const std::string& part) { text.append(part); }
inline void append_to(std::string& text, std::string_view part) { text.append(part); }

template <typename Number, std::enable_if_t<std::is_integral_v<Number>, int> = 0>
void append_to(std::string& text, Number number) {
  text.append(std::to_string(number));
}

// "[2, 3, 4]".
inline void append_to(std::string& text, at::IntArrayRef numbers) {
  text.push_back('[');
  for (size_t i = 0; i < numbers.size(); ++i) {
    text.append(i == 0 ? "" : ", ").append(std::to_string(numbers[i]));
  }
  text.push_back(']');
}

inline void append_to(std::string& text, const at::Device& device) { text.append(device.str()); }

template <typename... Parts>
std::string join(const Parts&... parts) {
  std::string text;
  (append_to(text, parts), ...);
  return text;
}

// "Float [2, 3, 4] on cpu", for error texts.
inline std::string describe(const at::Tensor& tensor) {
  return join(c10::toString(tensor.scalar_type()), " ", tensor.sizes(), " on ", tensor.device());
}

inline void check_rank(const char* op, const char* name, const at::Tensor& tensor, int64_t rank) {
  CAFFE_COMPAT_CHECK_VALUE(tensor.dim() == rank, op, ": ", name, " is ", describe(tensor),
                           "; expected ", rank, " axes");
}

inline void check_same_type(const char* op, const char* name, const at::Tensor& tensor,
                            const char* other_name, const at::Tensor& other) {
  CAFFE_COMPAT_CHECK_VALUE(
      tensor.scalar_type() == other.scalar_type() && tensor.device() == other.device(), op, ": ",
      name, " is ", describe(tensor), " but ", other_name, " is ", describe(other),
      "; expected the same dtype and device");
}

inline void check_same_shape(const char* op, const char* name, const at::Tensor& tensor,
                             const char* other_name, const at::Tensor& other) {
  CAFFE_COMPAT_CHECK_VALUE(tensor.sizes() == other.sizes(), op, ": ", name, " is ",
                           describe(tensor), " but ", other_name, " is ", describe(other),
                           "; expected the same shape");
}

}  // namespace caffe_compat
