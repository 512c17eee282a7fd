// The CUDA kernel of solver_update_ behind a C interface, for run_cases.py: two tensors in one
// launch, of which the second begins `shift` elements into its arrays, where vectors do not fit.
#include "host_cuda/device_array.h"
#include "solver_update/solver_update_kernels.cuh"

using namespace caffe_compat;

namespace {

constexpr int64_t kTested = 2;

// `values` has the weights, gradients, first and second histories of both tensors one behind the
// other, `sizes` their lengths, shift, and whether the first has a copy; out: the new weights, or
// the copies.
template <typename T>
void run(int64_t rule, const T* values, const int64_t* sizes, bool keep, T* weights,
         c10::BFloat16* copies, unsigned seed) {
  host_cuda::Machine::get().random.seed(seed);
  const int64_t all = sizes[0] + sizes[1], shift = sizes[2];
  const DeviceArray<T> weight(values, all), gradient(values + all, all),
      first(values + 2 * all, all), second(values + 3 * all, all);
  const DeviceArray<c10::BFloat16> copy(all + shift);
  const double rate = 0.1;
  const T clip = static_cast<T>(0.5);
  UpdateBatch<T> batch{};
  for (int64_t i = 0, start = 0; i < kTested; start += sizes[i++]) {
    const bool wanted = i > 0 || sizes[3] != 0;
    batch.tensors[i] = {.weight = weight.get() + start,
                        .gradient = gradient.get() + start,
                        .first = first.get() + start,
                        .second = second.get() + start,
                        .copy = wanted ? copy.get() + start + (i > 0 ? shift : 0) : nullptr,
                        .count = sizes[i],
                        .rate = &rate,
                        .lr_mult = 2,
                        .decay = static_cast<T>(0.01)};
  }
  const UpdateConstants<T> constants({.gradient_scale = 0.25,
                                      .l1 = false,
                                      .momentum = 0.9,
                                      .momentum2 = 0.99,
                                      .delta = 1e-3,
                                      .keep_update = keep});
  with_rule(static_cast<UpdateRule>(rule),
            [&](auto known) { launch_update<known()>(batch, kTested, &clip, constants, nullptr); });
  if (weights != nullptr) return (keep ? gradient : weight).copy_to(weights);
  std::vector<c10::BFloat16> made(all + shift);
  copy.copy_to(made.data());
  std::copy(made.begin() + (sizes[3] != 0 ? 0 : sizes[0] + shift),
            made.begin() + (sizes[3] != 0 ? sizes[0] : all + shift), copies);
}

}  // namespace

#define EXPORT(name, T)                                                                         \
  extern "C" void update_##name(int64_t rule, const T* values, const int64_t* sizes, bool keep, \
                                T* out, unsigned seed) {                                        \
    run<T>(rule, values, sizes, keep, out, nullptr, seed);                                      \
  }                                                                                             \
  extern "C" void copy_##name##_bfloat16(int64_t rule, const T* values, const int64_t* sizes,   \
                                         c10::BFloat16* out, unsigned seed) {                   \
    run<T>(rule, values, sizes, false, nullptr, out, seed);                                     \
  }
EXPORT(float32, float)
