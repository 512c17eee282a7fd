// torch.ops.caffe_compat.solver_update_: schema and the CPU side.

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <algorithm>
#include <optional>

#include "common/multiversion.h"
#include "solver_update/solver_update_arguments.h"

namespace caffe_compat {
namespace {

constexpr int64_t kChunk = 1 << 15;  // elements that a thread takes at a time

// A piece of one tensor.
template <typename T>
struct Chunk {
  const UpdateArrays<T>* arrays;
  int64_t begin, end;
};

template <UpdateRule rule, bool keep_update, typename T>
CAFFE_COMPAT_INLINE void update_range(const Chunk<T>& chunk, const T* clip,
                                      const UpdateConstants<T>& constants) {
  const UpdateArrays<T>& a = *chunk.arrays;
  T* __restrict weights = a.weight;
  T* __restrict gradients = a.gradient;
  T* __restrict firsts = a.first;
  T* __restrict seconds = a.second;
  const UpdateFactors<T> factors = update_factors(a, clip, constants);
  const UpdateConstants<T> c = constants;  // a copy, which no store can change
  for (int64_t i = chunk.begin; i < chunk.end; ++i) {
    T weight = weights[i], gradient = gradients[i], first = firsts[i], second = 0;
    if constexpr (RuleTraits<rule>::kHasSecond) second = seconds[i];
    update_element<rule>(weight, gradient, first, second, factors, c);
    weights[i] = weight;
    firsts[i] = first;
    if constexpr (RuleTraits<rule>::kHasSecond) seconds[i] = second;
    if constexpr (keep_update) gradients[i] = gradient;
  }
  // While the new weights are still in the cache.
  if (a.copy == nullptr) return;
  c10::BFloat16* __restrict copy = a.copy;
  for (int64_t i = chunk.begin; i < chunk.end; ++i) copy[i] = static_cast<float>(weights[i]);
}

// Not with_rule: a lambda would lose the vector set of the function that it stands in.
#define CAFFE_COMPAT_CASE(name)                                                    \
  case UpdateRule::k##name:                                                        \
    return c.keep_update ? update_range<UpdateRule::k##name, true>(chunk, clip, c) \
                         : update_range<UpdateRule::k##name, false>(chunk, clip, c);
#define CAFFE_COMPAT_UPDATE_CHUNK(T)                                                        \
  CAFFE_COMPAT_MULTIVERSION void update_chunk(UpdateRule rule, const Chunk<T>& chunk,       \
                                              const T* clip, const UpdateConstants<T>& c) { \
    switch (rule) { CAFFE_COMPAT_EACH_RULE(CAFFE_COMPAT_CASE) }                             \
  }
CAFFE_COMPAT_UPDATE_CHUNK(float)
CAFFE_COMPAT_UPDATE_CHUNK(double)
#undef CAFFE_COMPAT_UPDATE_CHUNK
#undef CAFFE_COMPAT_CASE

void solver_update_cpu(std::string_view rule_name, at::TensorList params, at::TensorList grads,
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
  const std::vector<at::Tensor> aligned = aligned_gradients(params, grads);
  AT_DISPATCH_FLOATING_TYPES(params[0].scalar_type(), "solver_update_", [&] {
    const UpdateConstants<scalar_t> constants(settings);
    const scalar_t* const clip_data = clip ? clip->const_data_ptr<scalar_t>() : nullptr;
    std::vector<UpdateArrays<scalar_t>> arrays;
    arrays.reserve(params.size());
    std::vector<Chunk<scalar_t>> chunks;
    for (size_t i = 0; i < params.size(); ++i) {
      arrays.push_back(update_arrays<scalar_t>(i, lists, aligned));
      for (int64_t begin = 0; begin < arrays[i].count; begin += kChunk) {
        chunks.push_back({&arrays[i], begin, std::min(begin + kChunk, arrays[i].count)});
      }
    }
    at::parallel_for(0, static_cast<int64_t>(chunks.size()), 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) update_chunk(rule, chunks[i], clip_data, constants);
    });
  });
  if (keep_update) return_gradients(grads, aligned);
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(caffe_compat, m) {
  // rates: a float64 number for each param, on its device, so that a recorded CUDA graph reads the
  // present one; clip: a factor on all gradients; copies: for none, some or all params the new
  // values in bfloat16 (see solver_update_arguments.h).
  m.def(
      "solver_update_(str rule, Tensor(a!)[] params, Tensor(b!)[] grads, Tensor(c!)[] first, "
      "Tensor(d!)[] second, Tensor[] rates, float[] lr_mults, float[] decays, Tensor? clip, "
      "float gradient_scale, bool l1, float momentum, float momentum2, float delta, "
      "bool keep_update, Tensor(e!)[] copies) -> ()");
}

TORCH_LIBRARY_IMPL(caffe_compat, CPU, m) { m.impl("solver_update_", solver_update_cpu); }

}  // namespace caffe_compat
