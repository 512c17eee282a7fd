// The CUDA kernel of the solver update behind a C interface, for test_update_kernel.py.
#include "solver_update/solver_update_kernels.cuh"

namespace {

using namespace caffe_compat;

// The arrays of `tensors` tensors lie one after another, each with its number in lr_mults and
// decays; `clip` may be null; every second tensor has no copy.
template <UpdateRule rule, typename T>
void run(T* weight, T* gradient, T* first, T* second, c10::BFloat16* copy, const int64_t* counts,
         const double* lr_mults, const double* decays, int tensors, double rate, const T* clip,
         const UpdateParams& params) {
  UpdateBatch<T> batch{};
  int64_t offset = 0;
  for (int i = 0; i < tensors; ++i) {
    T* const own_second = RuleTraits<rule>::kHasSecond ? second + offset : nullptr;
    batch.tensors[i] = {.weight = weight + offset,
                        .gradient = gradient + offset,
                        .first = first + offset,
                        .second = own_second,
                        .copy = i % 2 == 0 ? copy + offset : nullptr,
                        .count = counts[i],
                        .rate = &rate,
                        .lr_mult = lr_mults[i],
                        .decay = static_cast<T>(decays[i])};
    offset += counts[i];
  }
  launch_update<rule>(batch, tensors, clip, UpdateConstants<T>(params), nullptr);
}

}  // namespace

#define EXPORT(rule)                                                                          \
  extern "C" void update_##rule(                                                              \
      double* weight, double* gradient, double* first, double* second, c10::BFloat16* copy,   \
      const int64_t* counts, const double* lr_mults, const double* decays, int tensors,       \
      double rate, const double* clip, double gradient_scale, bool l1, double momentum,       \
      double momentum2, double delta, bool keep_update) {                                     \
    run<UpdateRule::k##rule>(weight, gradient, first, second, copy, counts, lr_mults, decays, \
                             tensors, rate, clip,                                             \
                             {.gradient_scale = gradient_scale,                               \
                              .l1 = l1,                                                       \
                              .momentum = momentum,                                           \
                              .momentum2 = momentum2,                                         \
                              .delta = delta,                                                 \
                              .keep_update = keep_update});                                   \
  }
CAFFE_COMPAT_EACH_RULE(EXPORT)
