// The CUDA side of torch.ops.caffe_compat.solver_update_.  Nothing waits for the device, and
// everything can be recorded in a CUDA graph.

#include <ATen/Dispatch.h>
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAGuard.h>
#include <torch/library.h>

#include <optional>

#include "solver_update/solver_update_arguments.h"
#include "solver_update/solver_update_kernels.cuh"

namespace caffe_compat {
namespace {

void solver_update_on_cuda(std::string_view rule_name, at::TensorList params, at::TensorList grads,
                           at::TensorList first, at::TensorList second, at::TensorList rates,
                           at::ArrayRef<double> lr_mults, at::ArrayRef<double> decays,
                           const std::optional<at::Tensor>& clip, double gradient_scale, bool l1,
                           double momentum, double momentum2, double delta, bool keep_update,
                           at::TensorList copies) {
  const UpdateRule rule = parse_rule(rule_name);
  const UpdateLists lists{.params = params,
                          .grads = grads,
                          .first = first,
                          .second = second,
                          .copies = copies,
                          .rates = rates,
                          .lr_mults = lr_mults,
                          .decays = decays};
  check_update(rule, lists, clip);
  if (params.empty()) return;
  const UpdateParams settings{.gradient_scale = gradient_scale,
                              .l1 = l1,
                              .momentum = momentum,
                              .momentum2 = momentum2,
                              .delta = delta,
                              .keep_update = keep_update};
  const c10::cuda::CUDAGuard guard(params[0].device());
  const std::vector<at::Tensor> aligned = aligned_gradients(params, grads);
  AT_DISPATCH_FLOATING_TYPES(params[0].scalar_type(), "solver_update_", [&] {
    const UpdateConstants<scalar_t> constants(settings);
    const scalar_t* const clip_data = clip ? clip->const_data_ptr<scalar_t>() : nullptr;
    with_rule(rule, [&](auto known) {
      for (size_t start = 0; start < params.size(); start += kTensors) {
        const int tensors = static_cast<int>(std::min<size_t>(kTensors, params.size() - start));
        UpdateBatch<scalar_t> batch{};
        for (int i = 0; i < tensors; ++i) {
          batch.tensors[i] = update_arrays<scalar_t>(start + i, lists, aligned);
        }
        launch_update<known()>(batch, tensors, clip_data, constants,
                               at::cuda::getCurrentCUDAStream());
      }
    });
  });
  if (keep_update) return_gradients(grads, aligned);
}

}  // namespace

TORCH_LIBRARY_IMPL(caffe_compat, CUDA, m) { m.impl("solver_update_", solver_update_on_cuda); }

}  // namespace caffe_compat
