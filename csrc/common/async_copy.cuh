// cp.async behind functions: copies from global to shared memory that run beside the arithmetic.
//
// The copies of a thread form groups, each closed by commit_copies().  wait_for_copies<n>() returns
// when all groups but the n youngest have arrived.  What other threads copied is visible after
// their wait and a barrier:
//
//   copy_16_bytes(...); commit_copies();   // group of stage 0
//   copy_16_bytes(...); commit_copies();   // group of stage 1
//   wait_for_copies<1>();                  // this thread's part of stage 0 is there
//   __syncthreads();                       // everybody's part of stage 0 is there
#pragma once

#include "common/cuda_utils.cuh"

#if defined(__CUDACC__)

namespace caffe_compat {

// 16 aligned bytes, or 16 zero bytes when not `inside` (`from` is then not read).
__device__ __forceinline__ void copy_16_bytes(char* to, const void* from, bool inside) {
  const uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(to));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from),
               "r"(inside ? 16 : 0)
               : "memory");
}

// The same of what the block soon reads again: it stays in the first-level cache.
__device__ __forceinline__ void copy_16_bytes_again(char* to, const void* from, bool inside) {
  const uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(to));
  asm volatile("cp.async.ca.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from),
               "r"(inside ? 16 : 0)
               : "memory");
}

// 4, 8 or 16 aligned bytes, for the thread that copies alone.
template <int bytes>
__device__ __forceinline__ void copy_bytes(char* to, const void* from, bool inside) {
  const uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(to));
  asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(address), "l"(from),
               "n"(bytes), "r"(inside ? bytes : 0)
               : "memory");
}

__device__ __forceinline__ void commit_copies() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}

template <int youngest>
__device__ __forceinline__ void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(youngest) : "memory");
}

}  // namespace caffe_compat

#else
#include <host_cuda/async_copy.h>
#endif
