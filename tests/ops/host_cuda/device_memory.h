// Arrays with cudaMalloc's promises and no more: aligned, and their ends guarded by
// AddressSanitizer.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>

template <typename T>
class DeviceArray {
 public:
  // Poisoned: all bits set is NaN in every floating type.
  explicit DeviceArray(int64_t count) : count_(count) {
    if (posix_memalign(&memory_, 256, bytes()) != 0) std::abort();
    std::memset(memory_, 0xff, bytes());
  }
  DeviceArray(const T* from, int64_t count) : DeviceArray(count) {
    if (count > 0) std::memcpy(memory_, from, bytes());
  }
  DeviceArray(const DeviceArray&) = delete;
  ~DeviceArray() { std::free(memory_); }

  T* get() const { return static_cast<T*>(memory_); }
  void copy_to(T* to) const {
    if (count_ > 0) std::memcpy(to, memory_, bytes());
  }

 private:
  size_t bytes() const { return count_ * sizeof(T); }

  int64_t count_;
  void* memory_;
};
