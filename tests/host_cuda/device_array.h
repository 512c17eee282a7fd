// Arrays with cudaMalloc's promises and no more: aligned, and their ends guarded by
// AddressSanitizer.
#pragma once

#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>

template <typename T>
class DeviceArray {
 public:
  // Poisoned: all bits set is NaN in every floating type.  `before` elements in front of the
  // `count` have addresses but no memory until they are touched, for offsets beyond 2^31.
  explicit DeviceArray(int64_t count, int64_t before = 0) : count_(count), before_(before) {
    if (before > 0) {
      memory_ = mmap(nullptr, all_bytes(), PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      if (memory_ == MAP_FAILED) std::abort();
    } else if (posix_memalign(&memory_, 256, all_bytes()) != 0) {
      std::abort();
    }
    std::memset(static_cast<void*>(values()), 0xff, bytes());
  }
  DeviceArray(const T* from, int64_t count, int64_t before = 0) : DeviceArray(count, before) {
    if (count > 0) std::memcpy(static_cast<void*>(values()), from, bytes());
  }
  DeviceArray(const DeviceArray&) = delete;
  ~DeviceArray() {
    if (before_ > 0) {
      munmap(memory_, all_bytes());
    } else {
      std::free(memory_);
    }
  }

  T* get() const { return static_cast<T*>(memory_); }
  T* values() const { return get() + before_; }  // the `count` ones
  void copy_to(T* to) const {
    if (count_ > 0) std::memcpy(to, values(), bytes());
  }

 private:
  size_t bytes() const { return count_ * sizeof(T); }
  size_t all_bytes() const { return (before_ + count_) * sizeof(T); }

  int64_t count_, before_;
  void* memory_;
};
