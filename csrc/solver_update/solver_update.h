// One solver update of one element: scale the gradient, add weight decay, let the rule turn it and
// its histories into an update u, subtract u.  The CPU and the CUDA side share this file; the slow
// twin is in caffe_compat/solver/rules.
#pragma once

#include <cmath>
#include <cstdint>

#if defined(__CUDACC__)
#define CAFFE_COMPAT_EACH_SIDE __host__ __device__ __forceinline__
#else
#define CAFFE_COMPAT_EACH_SIDE inline __attribute__((always_inline))
#endif

namespace caffe_compat {

enum class UpdateRule { kSGD, kNesterov, kAdaGrad, kRMSProp, kAdaDelta, kAdam };

// Whether a rule keeps a second history.
constexpr bool has_second(UpdateRule rule) {
  return rule == UpdateRule::kAdaDelta || rule == UpdateRule::kAdam;
}

struct UpdateParams {
  double gradient_scale, decay;
  bool l1;
  double rate;       // learning rate times lr_mult (and, for Adam, its correction)
  double momentum;   // rms_decay for RMSProp
  double momentum2;  // Adam's
  double delta;
  bool keep_update;  // leave u in the gradient
};

// The same in the type to compute in.
template <typename T>
struct UpdateConstants {
  T gradient_scale, decay, rate, momentum, rest, overshoot, momentum2, rest2, delta;
  bool l1, keep_update;

  explicit UpdateConstants(const UpdateParams& p)
      : gradient_scale(static_cast<T>(p.gradient_scale)),
        decay(static_cast<T>(p.decay)),
        rate(static_cast<T>(p.rate)),
        momentum(static_cast<T>(p.momentum)),
        rest(static_cast<T>(1 - p.momentum)),
        overshoot(static_cast<T>(1 + p.momentum)),
        momentum2(static_cast<T>(p.momentum2)),
        rest2(static_cast<T>(1 - p.momentum2)),
        delta(static_cast<T>(p.delta)),
        l1(p.l1),
        keep_update(p.keep_update) {}
};

// The rule alone: g and the histories to u.
template <UpdateRule rule, typename T>
CAFFE_COMPAT_EACH_SIDE T compute_update(T g, T& first, T& second, const UpdateConstants<T>& c) {
  if constexpr (rule == UpdateRule::kSGD) {
    first = c.momentum * first + c.rate * g;
    return first;
  }
  if constexpr (rule == UpdateRule::kNesterov) {
    const T before = first;
    first = c.momentum * first + c.rate * g;
    return c.overshoot * first - c.momentum * before;
  }
  if constexpr (rule == UpdateRule::kAdaGrad) {
    first += g * g;
    return c.rate * (g / (std::sqrt(first) + c.delta));
  }
  if constexpr (rule == UpdateRule::kRMSProp) {
    first = c.momentum * first + c.rest * (g * g);
    return c.rate * (g / (std::sqrt(first) + c.delta));
  }
  if constexpr (rule == UpdateRule::kAdaDelta) {
    first = c.momentum * first + c.rest * (g * g);
    const T u = g * std::sqrt((second + c.delta) / (first + c.delta));
    second = c.momentum * second + c.rest * (u * u);
    return c.rate * u;
  }
  first = c.momentum * first + c.rest * g;
  second = c.momentum2 * second + c.rest2 * (g * g);
  return c.rate * (first / (std::sqrt(second) + c.delta));
}

// One tensor's arrays; second is null for rules without one.
template <typename T>
struct UpdateArrays {
  T *weight, *gradient, *first, *second;
  int64_t count;
};

template <UpdateRule rule, typename T>
CAFFE_COMPAT_EACH_SIDE void update_element(const UpdateArrays<T>& a, int64_t i, T scale,
                                           const UpdateConstants<T>& c) {
  const T w = a.weight[i];
  const T pull = c.l1 ? static_cast<T>((w > 0) - (w < 0)) : w;
  const T g = a.gradient[i] * scale + c.decay * pull;
  T first = a.first[i];
  T second = 0;
  if constexpr (has_second(rule)) second = a.second[i];
  const T u = compute_update<rule>(g, first, second, c);
  a.weight[i] = w - u;
  a.first[i] = first;
  if constexpr (has_second(rule)) a.second[i] = second;
  if (c.keep_update) a.gradient[i] = u;
}

}  // namespace caffe_compat
