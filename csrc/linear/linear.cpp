// torch.ops.caffe_compat.linear and its two gradients on the CPU: schemas, checks, and the choice
// between our kernels and ATen. Fake kernels are in caffe_compat/ops/linear.py.

#include "linear/linear.h"

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mm.h>
#include <torch/library.h>

#include <cstdint>

#include "common/simd_level.h"
#include "common/tensor_checks.h"

namespace caffe_compat {
namespace {

// A weight gradient of so many numbers (16 MiB) would not stay in a cache until it is used.
constexpr int64_t kStreamedFloats = int64_t(1) << 22;

const LinearKernels* best_kernels() {
#if CAFFE_COMPAT_HAS_SIMD
  if (simd_level() == SimdLevel::kAvx512) return &kLinearAvx512;
  if (simd_level() == SimdLevel::kAvx2) return &kLinearAvx2;
#endif
  return nullptr;
}

// Our kernels where they are faster (benchmarks/bench_linear.py), else null: ATen.
const LinearKernels* kernels_for(const LinearSizes& s) {
  constexpr int64_t kLeastBatch = 1, kMostBatch = 256, kLeastWeights = int64_t(1) << 16;
  const bool wanted =
      s.batch >= kLeastBatch && s.batch <= kMostBatch && s.inputs * s.outputs >= kLeastWeights;
  return wanted ? best_kernels() : nullptr;
}

void check_float(const char* op, const char* name, const at::Tensor& tensor) {
  check_rank(op, name, tensor, 2);
  CAFFE_COMPAT_CHECK_TYPE(tensor.scalar_type() == at::kFloat, op, ": ", name, " is ",
                          describe(tensor), "; expected float32");
}

// Checks both matrices of `op`: float32, two axes, and `axis` of the first as long as `other_axis`
// of the second.
void check_pair(const char* op, const char* name, const at::Tensor& tensor, int64_t axis,
                const char* other_name, const at::Tensor& other, int64_t other_axis) {
  check_float(op, name, tensor);
  check_float(op, other_name, other);
  CAFFE_COMPAT_CHECK_VALUE(tensor.size(axis) == other.size(other_axis), op, ": ", name, " is ",
                           describe(tensor), " but ", other_name, " is ", describe(other),
                           "; expected axis ", axis, " of the first as long as axis ", other_axis,
                           " of the second");
}

constexpr int64_t tiles(int64_t size, int64_t tile) { return (size + tile - 1) / tile; }

// Calls run(range) for parts of [0, count), on all threads.
template <typename Run>
void for_ranges(int64_t count, const Run& run) {
  at::parallel_for(0, count, 1, [&](int64_t first, int64_t last) { run(TaskRange{first, last}); });
}

at::Tensor linear_cpu(const at::Tensor& input, const at::Tensor& weight,
                      const std::optional<at::Tensor>& bias, bool relu) {
  check_pair("linear", "input", input, 1, "weight", weight, 1);
  const LinearSizes s{input.size(0), input.size(1), weight.size(0)};
  if (bias) {
    check_same_type("linear", "bias", *bias, "input", input);
    CAFFE_COMPAT_CHECK_VALUE(bias->dim() == 1 && bias->size(0) == s.outputs, "linear: bias is ",
                             describe(*bias), "; expected [", s.outputs, "]");
  }
  const LinearKernels* kernels = kernels_for(s);
  if (!kernels) {
    at::Tensor output = at::linear(input, weight, bias);
    return relu ? output.relu_() : output;
  }
  const at::Tensor x = input.contiguous(), w = weight.contiguous();
  const at::Tensor b = bias ? bias->contiguous() : at::Tensor();
  const int64_t columns = kernels->packed_batch(s.batch);
  const int64_t row_tiles = tiles(s.outputs, kernels->tile_rows);
  at::Tensor y = at::empty({s.batch, s.outputs}, x.options());
  at::Tensor x_rows = at::empty({s.inputs, columns}, x.options());
  at::Tensor scratch = at::empty({row_tiles * kernels->tile_rows, columns}, x.options());
  const float* x_data = x.const_data_ptr<float>();
  float *packed = x_rows.mutable_data_ptr<float>(), *sums = scratch.mutable_data_ptr<float>();
  const LinearForward arrays = {
      .x_rows = packed,
      .weight = w.const_data_ptr<float>(),
      .bias = bias ? b.const_data_ptr<float>() : nullptr,
      .relu = relu,
      .output = y.mutable_data_ptr<float>(),
  };
  for_ranges(s.inputs, [&](TaskRange range) {
    kernels->pack_rows(x_data, s.batch, s.inputs, packed, range);
  });
  for_ranges(row_tiles, [&](TaskRange range) { kernels->forward(arrays, s, sums, range); });
  return y;
}

at::Tensor linear_input_grad_cpu(const at::Tensor& grad, const at::Tensor& weight) {
  check_pair("linear_input_grad", "grad", grad, 1, "weight", weight, 0);
  const LinearSizes s{grad.size(0), weight.size(1), weight.size(0)};
  const LinearKernels* kernels = kernels_for(s);
  if (!kernels) return at::mm(grad, weight);
  const at::Tensor dy = grad.contiguous(), w = weight.contiguous();
  const int64_t panels = tiles(s.inputs, kernels->tile_columns);
  at::Tensor dx = at::empty({s.batch, s.inputs}, dy.options());
  at::Tensor scratch = at::empty({panels, s.batch, kernels->tile_columns}, dy.options());
  const float *dy_data = dy.const_data_ptr<float>(), *w_data = w.const_data_ptr<float>();
  float *dx_data = dx.mutable_data_ptr<float>(), *sums = scratch.mutable_data_ptr<float>();
  for_ranges(panels, [&](TaskRange range) {
    kernels->input_grad(dy_data, w_data, dx_data, s, sums, range);
  });
  return dx;
}

at::Tensor linear_weight_grad_cpu(const at::Tensor& grad, const at::Tensor& input) {
  check_pair("linear_weight_grad", "grad", grad, 0, "input", input, 0);
  const LinearSizes s{grad.size(0), input.size(1), grad.size(1)};
  const LinearKernels* kernels = kernels_for(s);
  if (!kernels) return at::mm(grad.t(), input);
  const at::Tensor dy = grad.contiguous(), x = input.contiguous();
  const int64_t panels = tiles(s.inputs, kernels->tile_columns);
  at::Tensor dw = at::empty({s.outputs, s.inputs}, dy.options());
  at::Tensor x_columns = at::empty({panels, s.batch, kernels->tile_columns}, dy.options());
  const float *dy_data = dy.const_data_ptr<float>(), *x_data = x.const_data_ptr<float>();
  float *dw_data = dw.mutable_data_ptr<float>(), *packed = x_columns.mutable_data_ptr<float>();
  const bool stream = dw.numel() >= kStreamedFloats && s.inputs % kernels->tile_columns == 0 &&
                      reinterpret_cast<uintptr_t>(dw_data) % 64 == 0;
  for_ranges(panels, [&](TaskRange range) {
    kernels->pack_columns(x_data, s.batch, s.inputs, packed, range);
  });
  for_ranges(panels, [&](TaskRange range) {
    kernels->weight_grad(dy_data, packed, dw_data, stream, s, range);
  });
  return dw;
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(caffe_compat, m) {
  m.def("linear(Tensor input, Tensor weight, Tensor? bias, bool relu) -> Tensor");
  m.def("linear_input_grad(Tensor grad, Tensor weight) -> Tensor");
  m.def("linear_weight_grad(Tensor grad, Tensor input) -> Tensor");
}

TORCH_LIBRARY_IMPL(caffe_compat, CPU, m) {
  m.impl("linear", linear_cpu);
  m.impl("linear_input_grad", linear_input_grad_cpu);
  m.impl("linear_weight_grad", linear_weight_grad_cpu);
}

}  // namespace caffe_compat
