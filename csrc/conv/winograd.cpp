// Which of winograd.h's kernels this machine can run.

#include "conv/winograd.h"

#include "common/simd_level.h"

namespace caffe_compat {

const WinogradKernels* winograd_kernels(const WinogradShape& s) {
  if (s.group_channels() < kFewestWinogradChannels || s.group_outputs() < kFewestWinogradChannels) {
    return nullptr;
  }
#if CAFFE_COMPAT_HAS_SIMD
  switch (simd_level()) {
    case SimdLevel::kAvx512:
      return winograd_avx512(s.out_tile, s.kernel);
    case SimdLevel::kAvx2:
      return winograd_avx2(s.out_tile, s.kernel);
    case SimdLevel::kNone:
      break;
  }
#endif
  return nullptr;
}

}  // namespace caffe_compat
