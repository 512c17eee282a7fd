// One source, machine code for several x86 vector sets; the loader picks the best that the machine
// has.
#pragma once

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && defined(__GLIBC__) && \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define CAFFE_COMPAT_MULTIVERSION __attribute__((target_clones("default", "avx2", "avx512f")))
#else
#define CAFFE_COMPAT_MULTIVERSION
#endif

// Templates cannot have versions of their own: they are inlined into a multiversion function.
#define CAFFE_COMPAT_INLINE inline __attribute__((always_inline))
