// Stands in for ATen's header, so that CPU kernels compile alone: three pieces, the last one first,
// where the grain allows as many.
#pragma once

#include <algorithm>
#include <cstdint>

namespace at {

template <typename Task>
void parallel_for(int64_t begin, int64_t end, int64_t grain, const Task& task) {
  const int64_t count = end - begin;
  const int64_t pieces = std::clamp<int64_t>(count / std::max<int64_t>(grain, 1), 1, 3);
  for (int64_t i = pieces - 1; i >= 0 && count > 0; --i) {
    task(begin + count * i / pieces, begin + count * (i + 1) / pieces);
  }
}

}  // namespace at
