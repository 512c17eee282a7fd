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
  double gradient_scale;
  bool l1;
  double momentum;   // rms_decay for RMSProp
  double momentum2;  // Adam's
  double delta;
  bool keep_update;  // leave u in the gradient
};

// The same in the type to compute in.
template <typename T>
struct UpdateConstants {
  T gradient_scale, momentum, rest, overshoot, momentum2, rest2, delta;
  bool l1, keep_update;

  explicit UpdateConstants(const UpdateParams& p)
      : gradient_scale(static_cast<T>(p.gradient_scale)),
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
CAFFE_COMPAT_EACH_SIDE T compute_update(T g, T& first, T& second, T rate,
                                        const UpdateConstants<T>& c) {
  if constexpr (rule == UpdateRule::kSGD) {
    first = c.momentum * first + rate * g;
    return first;
  }
  if constexpr (rule == UpdateRule::kNesterov) {
    const T before = first;
    first = c.momentum * first + rate * g;
    return c.overshoot * first - c.momentum * before;
  }
  if constexpr (rule == UpdateRule::kAdaGrad) {
    first += g * g;
    return rate * (g / (std::sqrt(first) + c.delta));
  }
  if constexpr (rule == UpdateRule::kRMSProp) {
    first = c.momentum * first + c.rest * (g * g);
    return rate * (g / (std::sqrt(first) + c.delta));
  }
  if constexpr (rule == UpdateRule::kAdaDelta) {
    first = c.momentum * first + c.rest * (g * g);
    const T u = g * std::sqrt((second + c.delta) / (first + c.delta));
    second = c.momentum * second + c.rest * (u * u);
    return rate * u;
  }
  first = c.momentum * first + c.rest * g;
  second = c.momentum2 * second + c.rest2 * (g * g);
  return rate * (first / (std::sqrt(second) + c.delta));
}

// One tensor: its arrays (second is null for rules without one) and what is its own.
template <typename T>
struct UpdateArrays {
  T *weight, *gradient, *first, *second;
  int64_t count;
  const double* rate;  // the learning rate (for Adam, corrected), where the tensor is
  double lr_mult;
  T decay;  // weight_decay times decay_mult
};

// What a tensor's elements are updated with, ready to use.
template <typename T>
struct UpdateFactors {
  T scale, rate, decay;  // scale: of the gradient
};

// `clip` may be null.
template <typename T>
CAFFE_COMPAT_EACH_SIDE UpdateFactors<T> update_factors(const UpdateArrays<T>& a, const T* clip,
                                                       const UpdateConstants<T>& c) {
  return {(clip == nullptr ? T(1) : *clip) * c.gradient_scale, static_cast<T>(*a.rate * a.lr_mult),
          a.decay};
}

// Takes a gradient to u, a weight to weight - u, and the histories on.
template <UpdateRule rule, typename T>
CAFFE_COMPAT_EACH_SIDE void update_element(T& weight, T& gradient, T& first, T& second,
                                           const UpdateFactors<T>& f, const UpdateConstants<T>& c) {
  const T pull = c.l1 ? static_cast<T>((weight > 0) - (weight < 0)) : weight;
  gradient = compute_update<rule>(gradient * f.scale + f.decay * pull, first, second, f.rate, c);
  weight -= gradient;
}

}  // namespace caffe_compat
