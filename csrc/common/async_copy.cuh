// Copies from global to shared memory that run beside the arithmetic (cp.async), behind a wrapper.
//
// Copies of a thread form groups, each closed by commit_copies(); wait_for_copies<n>() returns when
// all but the n youngest groups have arrived.  What other threads copied is visible after their
// wait and a barrier.  On the host a copy happens at a random moment between its issue and its
// wait, so a missing wait or a stage that is overwritten too early shows as a wrong result.
#pragma once

#include "common/cuda_utils.cuh"

namespace caffe_compat {

// 16 aligned bytes, or 16 zero bytes when not `inside` (`from` is then not read).
__device__ __forceinline__ void copy_16_bytes(char* to, const void* from, bool inside) {
#if defined(__CUDA_ARCH__)
  const uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(to));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from),
               "r"(inside ? 16 : 0)
               : "memory");
#elif !defined(__CUDACC__)
  host_cuda::Machine::get().copy_async(to, from, inside);
#endif
}

__device__ __forceinline__ void commit_copies() {
#if defined(__CUDA_ARCH__)
  asm volatile("cp.async.commit_group;" ::: "memory");
#elif !defined(__CUDACC__)
  host_cuda::Machine::get().commit_copies();
#endif
}

template <int youngest>
__device__ __forceinline__ void wait_for_copies() {
#if defined(__CUDA_ARCH__)
  asm volatile("cp.async.wait_group %0;" ::"n"(youngest) : "memory");
#elif !defined(__CUDACC__)
  host_cuda::Machine::get().wait_for_copies(youngest);
#endif
}

}  // namespace caffe_compat
