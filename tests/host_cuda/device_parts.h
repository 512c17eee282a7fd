// Tensors whose channels are in parts, as DeviceArrays.
#pragma once

#include <algorithm>
#include <memory>
#include <vector>

#include "host_cuda/device_array.h"
#include "parts/parts_device.cuh"

// Made from and written to one array of them, one behind the other.
template <typename T>
class DeviceParts {
 public:
  DeviceParts(int64_t parts, int64_t pixels, int64_t channels)
      : each_(channels / parts), count_(pixels * each_) {
    for (int64_t i = 0; i < parts; ++i) arrays_.push_back(std::make_unique<DeviceArray<T>>(count_));
  }
  DeviceParts(const T* from, int64_t parts, int64_t pixels, int64_t channels)
      : each_(channels / parts), count_(pixels * each_) {
    for (int64_t i = 0; i < parts; ++i) {
      arrays_.push_back(std::make_unique<DeviceArray<T>>(from + i * count_, count_));
    }
  }
  template <typename U>
  caffe_compat::ChannelParts<U> get() const {
    caffe_compat::ChannelParts<U> parts{.data = {}, .each = each_};
    for (size_t i = 0; i < caffe_compat::kMostParts; ++i) {
      parts.data[i] = arrays_[std::min(i, arrays_.size() - 1)]->get();
    }
    return parts;
  }
  void copy_to(T* to) const {
    for (size_t i = 0; i < arrays_.size(); ++i) arrays_[i]->copy_to(to + i * count_);
  }

 private:
  int64_t each_, count_;
  std::vector<std::unique_ptr<DeviceArray<T>>> arrays_;
};
