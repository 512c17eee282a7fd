// The arguments of torch.ops.caffe_compat.solver_update_, checked and made uniform for both sides.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty_like.h>

#include <iterator>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/tensor_checks.h"
#include "solver_update/solver_update.h"

namespace caffe_compat {

// The rule of a name; a ValueError that lists all for another.
inline UpdateRule parse_rule(std::string_view name) {
#define CAFFE_COMPAT_NAME(name) #name,
  constexpr std::string_view kNames[] = {CAFFE_COMPAT_EACH_RULE(CAFFE_COMPAT_NAME)};
#undef CAFFE_COMPAT_NAME
  std::string all;
  for (size_t i = 0; i < std::size(kNames); ++i) {
    if (name == kNames[i]) return static_cast<UpdateRule>(i);
    all.append(i == 0 ? "" : ", ").append(kNames[i]);
  }
  CAFFE_COMPAT_CHECK_VALUE(false, "solver_update_: rule is ", name, "; expected one of ", all);
}

// The lists of the operator: one entry for each parameter; `second` is empty for rules without one,
// `copies` where none is wanted; an entry of copies without elements: none of this parameter.
struct UpdateLists {
  at::TensorList params, grads, first, second, copies, rates;
  at::ArrayRef<double> lr_mults, decays;
};

inline bool has_copy(size_t i, const UpdateLists& lists) {
  return !lists.copies.empty() && lists.copies[i].numel() != 0;
}

inline void check_copy(const at::Tensor& copy, const at::Tensor& param) {
  check_same_shape("solver_update_", "copy", copy, "param", param);
  CAFFE_COMPAT_CHECK_TYPE(copy.scalar_type() == at::kBFloat16 && copy.device() == param.device(),
                          "solver_update_: copy is ", describe(copy), "; expected bfloat16 on ",
                          param.device());
  CAFFE_COMPAT_CHECK_VALUE(copy.strides() == param.strides(), "solver_update_: copy has strides ",
                           copy.strides(), ", param ", param.strides(),
                           "; expected the same memory layout");
}

inline void check_update(UpdateRule rule, const UpdateLists& lists,
                         const std::optional<at::Tensor>& clip) {
  const auto& [params, grads, first, second, copies, rates, lr_mults, decays] = lists;
  const size_t seconds = has_second(rule) ? params.size() : 0;
  CAFFE_COMPAT_CHECK_VALUE(
      grads.size() == params.size() && first.size() == params.size() && second.size() == seconds,
      "solver_update_: ", params.size(), " params, ", grads.size(), " grads, ", first.size(),
      " first and ", second.size(), " second histories; expected as many of each, and ", seconds,
      " second ones");
  CAFFE_COMPAT_CHECK_VALUE(rates.size() == params.size() && lr_mults.size() == params.size() &&
                               decays.size() == params.size(),
                           "solver_update_: ", params.size(), " params, ", rates.size(), " rates, ",
                           lr_mults.size(), " lr_mults and ", decays.size(),
                           " decays; expected as many of each");
  CAFFE_COMPAT_CHECK_VALUE(copies.empty() || copies.size() == params.size(),
                           "solver_update_: ", params.size(), " params and ", copies.size(),
                           " copies; expected as many, or none");
  if (clip && !params.empty()) {
    check_same_type("solver_update_", "clip", *clip, "the first param", params[0]);
    CAFFE_COMPAT_CHECK_VALUE(clip->numel() == 1, "solver_update_: clip is ", describe(*clip),
                             "; expected one number");
  }
  for (size_t i = 0; i < params.size(); ++i) {
    const at::Tensor& param = params[i];
    CAFFE_COMPAT_CHECK_TYPE(param.scalar_type() == at::kFloat || param.scalar_type() == at::kDouble,
                            "solver_update_: param is ", describe(param),
                            "; expected float32 or float64");
    check_same_type("solver_update_", "param", param, "the first param", params[0]);
    CAFFE_COMPAT_CHECK_VALUE(param.is_non_overlapping_and_dense(), "solver_update_: param ",
                             describe(param), " with strides ", param.strides(), " is not dense");
    CAFFE_COMPAT_CHECK_VALUE(rates[i].scalar_type() == at::kDouble && rates[i].numel() == 1 &&
                                 rates[i].device() == param.device(),
                             "solver_update_: rate is ", describe(rates[i]),
                             "; expected one float64 number on ", param.device());
    for (const auto& [name, list] :
         {std::pair{"grad", grads}, {"first", first}, {"second", second}}) {
      if (list.empty()) continue;
      check_same_shape("solver_update_", name, list[i], "param", param);
      check_same_type("solver_update_", name, list[i], "param", param);
      const bool history = list.data() != grads.data();
      CAFFE_COMPAT_CHECK_VALUE(!history || list[i].strides() == param.strides(),
                               "solver_update_: ", name, " has strides ", list[i].strides(),
                               ", param ", param.strides(), "; expected the same memory layout");
    }
    if (has_copy(i, lists)) check_copy(copies[i], param);
  }
}

// The gradients in their parameters' memory layouts; copies where they differ.
inline std::vector<at::Tensor> aligned_gradients(at::TensorList params, at::TensorList grads) {
  std::vector<at::Tensor> aligned;
  aligned.reserve(grads.size());
  for (size_t i = 0; i < grads.size(); ++i) {
    const bool same = grads[i].strides() == params[i].strides();
    aligned.push_back(same ? grads[i] : at::empty_like(params[i]).copy_(grads[i]));
  }
  return aligned;
}

template <typename T>
UpdateArrays<T> update_arrays(size_t i, const UpdateLists& lists,
                              const std::vector<at::Tensor>& grads) {
  return {
      .weight = lists.params[i].mutable_data_ptr<T>(),
      .gradient = grads[i].mutable_data_ptr<T>(),
      .first = lists.first[i].mutable_data_ptr<T>(),
      .second = lists.second.empty() ? nullptr : lists.second[i].mutable_data_ptr<T>(),
      .copy = has_copy(i, lists) ? lists.copies[i].mutable_data_ptr<c10::BFloat16>() : nullptr,
      .count = lists.params[i].numel(),
      .rate = lists.rates[i].const_data_ptr<double>(),
      .lr_mult = lists.lr_mults[i],
      .decay = static_cast<T>(lists.decays[i]),
  };
}

// Gives the update back to gradients that were copied.
inline void return_gradients(at::TensorList grads, const std::vector<at::Tensor>& aligned) {
  for (size_t i = 0; i < grads.size(); ++i) {
    if (!grads[i].is_same(aligned[i])) grads[i].copy_(aligned[i]);
  }
}

}  // namespace caffe_compat
