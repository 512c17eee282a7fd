// Memory for what a program's kernels read: zeros at first, aligned to cache lines, given back as a
// whole.
//
// It lies in large pages where the system has them.  A net's weights are read once in each run,
// from thousands of small pages, whose addresses a processor cannot all remember.
#pragma once

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <vector>

namespace caffe_compat {

class Memory {
 public:
  float* take(int64_t numbers) {
    constexpr int64_t kLine = 16;
    numbers = (std::max<int64_t>(numbers, 1) + kLine - 1) / kLine * kLine;
    for (Block& block : blocks_) {
      if (block.size - block.used >= numbers) return block.take(numbers);
    }
    blocks_.push_back(make_block(numbers));
    return blocks_.back().take(numbers);
  }

 private:
  struct Free {
    void operator()(float* data) const { std::free(data); }
  };
  struct Block {
    std::unique_ptr<float, Free> data;
    int64_t size, used;

    float* take(int64_t numbers) {
      used += numbers;
      return data.get() + used - numbers;
    }
  };

  static Block make_block(int64_t numbers) {
    constexpr int64_t kPage = 2 << 20;  // bytes
    constexpr int64_t kNumbers = kPage / sizeof(float);
    const int64_t size = (numbers + kNumbers - 1) / kNumbers * kNumbers;
    void* data = std::aligned_alloc(kPage, size * sizeof(float));
    if (data == nullptr) throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
    madvise(data, size * sizeof(float), MADV_HUGEPAGE);  // a wish: without it all is as before
#endif
    std::memset(data, 0, size * sizeof(float));
    return {std::unique_ptr<float, Free>(static_cast<float*>(data)), size, 0};
  }

  std::vector<Block> blocks_;
};

}  // namespace caffe_compat
