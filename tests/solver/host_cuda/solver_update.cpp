// The CUDA kernel of the solver update behind a C interface, for test_update_kernel.py.
#include "solver_update/solver_update_kernels.cuh"

namespace {

using namespace caffe_compat;

// The arrays of `tensors` tensors lie one after another; `clip` may be null.
template <UpdateRule rule, typename T>
void run(T* weight, T* gradient, T* first, T* second, const int64_t* counts, int tensors,
         const T* clip, const UpdateParams& params) {
  UpdateBatch<T> batch{};
  int64_t offset = 0;
  for (int i = 0; i < tensors; ++i) {
    T* const own_second = has_second(rule) ? second + offset : nullptr;
    batch.tensors[i] = {weight + offset, gradient + offset, first + offset, own_second, counts[i]};
    offset += counts[i];
  }
  launch_update<rule>(batch, tensors, clip, UpdateConstants<T>(params), nullptr);
}

}  // namespace

#define EXPORT(rule)                                                                              \
  extern "C" void update_##rule(                                                                  \
      double* weight, double* gradient, double* first, double* second, const int64_t* counts,     \
      int tensors, const double* clip, double gradient_scale, double decay, bool l1, double rate, \
      double momentum, double momentum2, double delta, bool keep_update) {                        \
    run<UpdateRule::k##rule>(                                                                     \
        weight, gradient, first, second, counts, tensors, clip,                                   \
        {gradient_scale, decay, l1, rate, momentum, momentum2, delta, keep_update});              \
  }
EXPORT(SGD)
EXPORT(Nesterov)
EXPORT(AdaGrad)
EXPORT(RMSProp)
EXPORT(AdaDelta)
EXPORT(Adam)
