// torch.ops.caffe_compat.solver_update_: schema and the CPU side.

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <optional>

#include "solver_update/solver_update_arguments.h"

namespace caffe_compat {
namespace {

constexpr int64_t kGrain = 1 << 15;  // elements for a thread at least

template <UpdateRule rule, typename T>
void update_tensor(const UpdateArrays<T>& arrays, T scale, const UpdateConstants<T>& constants) {
  at::parallel_for(0, arrays.count, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) update_element<rule>(arrays, i, scale, constants);
  });
}

void solver_update_cpu(std::string_view rule_name, at::TensorList params, at::TensorList grads,
                       at::TensorList first, at::TensorList second,
                       const std::optional<at::Tensor>& scale, double gradient_scale, double decay,
                       bool l1, double rate, double momentum, double momentum2, double delta,
                       bool keep_update) {
  const UpdateRule rule = parse_rule(rule_name);
  check_update(rule, params, grads, first, second);
  if (params.empty()) return;
  const UpdateParams settings{gradient_scale, decay,     l1,    rate,
                              momentum,       momentum2, delta, keep_update};
  const std::vector<at::Tensor> aligned = aligned_gradients(params, grads);
  AT_DISPATCH_FLOATING_TYPES(params[0].scalar_type(), "solver_update_", [&] {
    const UpdateConstants<scalar_t> constants(settings);
    const scalar_t clip = scale ? scale->item<scalar_t>() : scalar_t(1);
    with_rule(rule, [&](auto known) {
      for (size_t i = 0; i < params.size(); ++i) {
        update_tensor<known()>(update_arrays<scalar_t>(rule, i, params, aligned, first, second),
                               clip * constants.gradient_scale, constants);
      }
    });
  });
  if (keep_update) return_gradients(grads, aligned);
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(caffe_compat, m) {
  m.def(
      "solver_update_(str rule, Tensor(a!)[] params, Tensor(b!)[] grads, Tensor(c!)[] first, "
      "Tensor(d!)[] second, Tensor? scale, float gradient_scale, float decay, bool l1, float rate, "
      "float momentum, float momentum2, float delta, bool keep_update) -> ()");
}

TORCH_LIBRARY_IMPL(caffe_compat, CPU, m) { m.impl("solver_update_", solver_update_cpu); }

}  // namespace caffe_compat
