// The host's twin of common/async_copy.cuh: a copy happens at a random moment between its issue and
// its wait, so a missing wait or a stage that is overwritten too early shows as a wrong result.
#pragma once

#include <host_cuda/machine.h>

namespace caffe_compat {

inline void copy_16_bytes(char* to, const void* from, bool inside) {
  host_cuda::Machine::get().copy_async(to, from, 16, inside);
}

inline void copy_16_bytes_again(char* to, const void* from, bool inside) {
  copy_16_bytes(to, from, inside);
}

template <int bytes>
void copy_bytes(char* to, const void* from, bool inside) {
  host_cuda::Machine::get().copy_async(to, from, bytes, inside);
}

inline void commit_copies() { host_cuda::Machine::get().commit_copies(); }

template <int youngest>
void wait_for_copies() {
  host_cuda::Machine::get().wait_for_copies(youngest);
}

}  // namespace caffe_compat
