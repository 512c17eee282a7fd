// A part of the numbered tasks of a kernel, by which a caller shares it out among threads.
#pragma once

#include <cstdint>

namespace caffe_compat {

struct TaskRange {
  int64_t first, last;  // last: one behind the end
};

}  // namespace caffe_compat
