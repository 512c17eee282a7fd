// One solver update of one element: scale the gradient, add weight decay, let the rule turn it and
// its histories into an update u, subtract u.  The CPU and the CUDA side share this file; the slow
// twin of each rule is its compute_update in caffe_compat/solver/rules.
//
// A new rule: its name in CAFFE_COMPAT_EACH_RULE and its RuleTraits, both here.
#pragma once

#include <c10/util/BFloat16.h>

#include <cmath>
#include <cstdint>
#include <type_traits>

#if defined(__CUDACC__)
#define CAFFE_COMPAT_EACH_SIDE __host__ __device__ __forceinline__
#else
#define CAFFE_COMPAT_EACH_SIDE inline __attribute__((always_inline))
#endif

namespace caffe_compat {

// Every rule, by its name in solver files; what belongs to each is in its RuleTraits below.
#define CAFFE_COMPAT_EACH_RULE(X) X(SGD) X(Nesterov) X(AdaGrad) X(RMSProp) X(AdaDelta) X(Adam)

#define CAFFE_COMPAT_ENUMERATOR(name) k##name,
enum class UpdateRule { CAFFE_COMPAT_EACH_RULE(CAFFE_COMPAT_ENUMERATOR) };
#undef CAFFE_COMPAT_ENUMERATOR

// The settings of one call, for all its tensors.
struct UpdateParams {
  double gradient_scale;
  bool l1;           // weight decay by sign(w) instead of w
  double momentum;   // rms_decay for RMSProp
  double momentum2;  // Adam's
  double delta;
  bool keep_update;  // leave u in the gradient
};

// The settings in the type to compute in: rest is 1 - momentum, overshoot 1 + momentum.
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

// What a rule is: whether it keeps a second history, and how it turns g and its histories into u.
// Only declared here, so that a rule of the list without traits of its own does not compile.
template <UpdateRule rule>
struct RuleTraits;

template <>
struct RuleTraits<UpdateRule::kSGD> {
  static constexpr bool kHasSecond = false;

  template <typename T>
  static CAFFE_COMPAT_EACH_SIDE T update(T g, T& first, T& second, T rate,
                                         const UpdateConstants<T>& c) {
    first = c.momentum * first + rate * g;
    return first;
  }
};

template <>
struct RuleTraits<UpdateRule::kNesterov> {
  static constexpr bool kHasSecond = false;

  template <typename T>
  static CAFFE_COMPAT_EACH_SIDE T update(T g, T& first, T& second, T rate,
                                         const UpdateConstants<T>& c) {
    const T before = first;
    first = c.momentum * first + rate * g;
    return c.overshoot * first - c.momentum * before;
  }
};

template <>
struct RuleTraits<UpdateRule::kAdaGrad> {
  static constexpr bool kHasSecond = false;

  template <typename T>
  static CAFFE_COMPAT_EACH_SIDE T update(T g, T& first, T& second, T rate,
                                         const UpdateConstants<T>& c) {
    first += g * g;
    return rate * (g / (std::sqrt(first) + c.delta));
  }
};

template <>
struct RuleTraits<UpdateRule::kRMSProp> {
  static constexpr bool kHasSecond = false;

  template <typename T>
  static CAFFE_COMPAT_EACH_SIDE T update(T g, T& first, T& second, T rate,
                                         const UpdateConstants<T>& c) {
    first = c.momentum * first + c.rest * (g * g);
    return rate * (g / (std::sqrt(first) + c.delta));
  }
};

template <>
struct RuleTraits<UpdateRule::kAdaDelta> {
  static constexpr bool kHasSecond = true;

  template <typename T>
  static CAFFE_COMPAT_EACH_SIDE T update(T g, T& first, T& second, T rate,
                                         const UpdateConstants<T>& c) {
    first = c.momentum * first + c.rest * (g * g);
    const T u = g * std::sqrt((second + c.delta) / (first + c.delta));
    second = c.momentum * second + c.rest * (u * u);
    return rate * u;
  }
};

template <>
struct RuleTraits<UpdateRule::kAdam> {
  static constexpr bool kHasSecond = true;

  template <typename T>
  static CAFFE_COMPAT_EACH_SIDE T update(T g, T& first, T& second, T rate,
                                         const UpdateConstants<T>& c) {
    first = c.momentum * first + c.rest * g;
    second = c.momentum2 * second + c.rest2 * (g * g);
    return rate * (first / (std::sqrt(second) + c.delta));
  }
};

// Calls run with the rule as a compile-time constant.
template <typename Run>
constexpr auto with_rule(UpdateRule rule, const Run& run) {
#define CAFFE_COMPAT_CASE(name) \
  case UpdateRule::k##name:     \
    return run(std::integral_constant<UpdateRule, UpdateRule::k##name>{});
  switch (rule) { CAFFE_COMPAT_EACH_RULE(CAFFE_COMPAT_CASE) }
#undef CAFFE_COMPAT_CASE
  __builtin_unreachable();
}

constexpr bool has_second(UpdateRule rule) {
  return with_rule(rule, [](auto known) { return RuleTraits<known()>::kHasSecond; });
}

// One tensor: its arrays (second is null for rules without one; copy, the new weights rounded to
// bfloat16, is null where none is wanted) and what is its own.
template <typename T>
struct UpdateArrays {
  T *weight, *gradient, *first, *second;
  c10::BFloat16* copy;
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
  gradient =
      RuleTraits<rule>::update(gradient * f.scale + f.decay * pull, first, second, f.rate, c);
  weight -= gradient;
}

}  // namespace caffe_compat
