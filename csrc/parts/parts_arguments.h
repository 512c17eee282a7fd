// What the CUDA side does with lists of tensors whose channels are in parts, before a kernel runs.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <optional>
#include <vector>

#include "common/tensor_checks.h"
#include "parts/parts_device.cuh"

namespace caffe_compat {

struct PartsShape {
  int64_t batch, channels, height, width;  // of all parts together

  int64_t pixels() const { return batch * height * width; }
};

// The shape of all parts together.
inline PartsShape check_parts(const char* op, const char* name, at::TensorList parts) {
  CAFFE_COMPAT_CHECK_VALUE(!parts.empty() && parts.size() <= kMostParts, op, ": ", name, " has ",
                           parts.size(), " parts; expected 1 to ", kMostParts);
  check_rank(op, name, parts[0], 4);
  for (const at::Tensor& part : parts) {
    check_same_shape(op, name, part, "its first part", parts[0]);
    check_same_type(op, name, part, "its first part", parts[0]);
  }
  return {parts[0].size(0), static_cast<int64_t>(parts.size()) * parts[0].size(1), parts[0].size(2),
          parts[0].size(3)};
}

inline void check_same_parts_shape(const char* op, const char* name, const PartsShape& a,
                                   const char* other_name, const PartsShape& b) {
  CAFFE_COMPAT_CHECK_VALUE(
      a.batch == b.batch && a.channels == b.channels && a.height == b.height && a.width == b.width,
      op, ": ", name, " is (", a.batch, ", ", a.channels, ", ", a.height, ", ", a.width, ") but ",
      other_name, " is (", b.batch, ", ", b.channels, ", ", b.height, ", ", b.width,
      "), parts together; expected the same shape");
}

inline std::vector<at::Tensor> dense_parts(at::TensorList parts) {
  std::vector<at::Tensor> dense;
  for (const at::Tensor& part : parts) {
    dense.push_back(part.contiguous(at::MemoryFormat::ChannelsLast));
  }
  return dense;
}

// `groups` parts of this shape, not yet filled.
inline std::vector<at::Tensor> empty_parts(const char* op, const PartsShape& s, int64_t groups,
                                           const at::TensorOptions& options) {
  CAFFE_COMPAT_CHECK_VALUE(groups >= 1 && groups <= kMostParts && s.channels % groups == 0, op,
                           ": groups is ", groups, " for ", s.channels, " channels; expected 1 to ",
                           kMostParts, ", a divisor of them");
  std::vector<at::Tensor> parts;
  for (int64_t g = 0; g < groups; ++g) {
    parts.push_back(at::empty({s.batch, s.channels / groups, s.height, s.width},
                              options.memory_format(at::MemoryFormat::ChannelsLast)));
  }
  return parts;
}

template <typename T>
ChannelParts<const T> read_parts(const std::vector<at::Tensor>& parts) {
  ChannelParts<const T> found{.data = {}, .each = parts[0].size(1)};
  for (size_t i = 0; i < kMostParts; ++i) {
    found.data[i] = parts[std::min(i, parts.size() - 1)].const_data_ptr<T>();
  }
  return found;
}

template <typename T>
ChannelParts<T> write_parts(const std::vector<at::Tensor>& parts) {
  ChannelParts<T> found{.data = {}, .each = parts[0].size(1)};
  for (size_t i = 0; i < kMostParts; ++i) {
    found.data[i] = parts[std::min(i, parts.size() - 1)].mutable_data_ptr<T>();
  }
  return found;
}

// The dense bias, or an undefined tensor.
inline at::Tensor check_bias(const char* op, const std::optional<at::Tensor>& bias,
                             const at::Tensor& input, int64_t channels) {
  if (!bias.has_value() || !bias->defined()) return at::Tensor();
  CAFFE_COMPAT_CHECK_VALUE(
      bias->dim() == 1 && bias->size(0) == channels && bias->device() == input.device() &&
          (bias->scalar_type() == at::kFloat || bias->scalar_type() == input.scalar_type()),
      op, ": bias is ", describe(*bias), " for input ", describe(input),
      "; expected one number for each of ", channels,
      " channels, in float32 or the input's dtype, on its device");
  return bias->contiguous();
}

template <typename T>
ChannelBias<T> read_bias(const at::Tensor& bias) {
  if (!bias.defined()) return {nullptr, nullptr};
  if (bias.scalar_type() == at::kFloat) return {nullptr, bias.const_data_ptr<float>()};
  return {bias.const_data_ptr<T>(), nullptr};
}

}  // namespace caffe_compat
