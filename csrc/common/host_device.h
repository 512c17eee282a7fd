// CAFFE_COMPAT_HOST_DEVICE: before a function that kernels of both devices call.
#pragma once

#if defined(__CUDACC__)
#define CAFFE_COMPAT_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define CAFFE_COMPAT_HOST_DEVICE inline __attribute__((always_inline))
#endif
