// torch.ops.caffe_compat.max_pool and relu_pool_lrn with their gradients: schemas, the CPU side,
// autocast.  Fake kernels are in caffe_compat/ops/pool.py.

#include <ATen/Parallel.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include <tuple>

#include "common/cpu_types.h"
#include "lrn/lrn_arguments.h"
#include "lrn/lrn_cpu.h"
#include "pool/pool_arguments.h"
#include "pool/pool_cpu.h"

namespace caffe_compat {
namespace {

std::tuple<at::Tensor, at::Tensor> max_pool_cpu(const at::Tensor& input, at::IntArrayRef kernel,
                                                at::IntArrayRef stride, at::IntArrayRef padding,
                                                at::IntArrayRef out_size, bool relu) {
  const PoolOutputs out = pool_outputs("max_pool", input, {kernel, stride, padding, out_size});
  run_for_cpu_type("max_pool", out.input, [&](auto zero) {
    using T = decltype(zero);
    max_pool_forward_cpu(out.input.const_data_ptr<T>(), out.output.mutable_data_ptr<T>(),
                         out.tap.mutable_data_ptr<uint8_t>(), out.sizes, relu);
  });
  return {out.output, out.tap};
}

at::Tensor max_pool_backward_cpu_op(const at::Tensor& grad, const at::Tensor& tap, int64_t height,
                                    int64_t width, at::IntArrayRef kernel, at::IntArrayRef stride,
                                    at::IntArrayRef padding) {
  const PoolGradient g =
      pool_gradient("max_pool_backward", grad, tap, height, width, {kernel, stride, padding, {}});
  run_for_cpu_type("max_pool_backward", g.grad, [&](auto zero) {
    using T = decltype(zero);
    max_pool_backward_cpu(g.grad.const_data_ptr<T>(), g.tap.const_data_ptr<uint8_t>(),
                          g.input_grad.mutable_data_ptr<T>(), g.sizes);
  });
  return g.input_grad;
}

// Calls stage(first image, sizes of the images that it is to work on).  Image by image where there
// are enough of them for all threads, so that what one stage writes is still in the cache when the
// next one reads it; otherwise each stage goes over the whole batch.
template <typename Stages>
void run_stages(const PoolSizes& all, const Stages& stages) {
  if (all.batch < at::get_num_threads()) {
    stages(0, all);
    return;
  }
  PoolSizes one = all;
  one.batch = 1;
  at::parallel_for(0, all.batch, 1, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n) stages(n, one);
  });
}

LrnShape pooled_shape(const PoolSizes& s) {
  return {.batch = s.batch,
          .channels = s.channels,
          .height = s.out_height,
          .width = s.out_width,
          .channels_last = s.channels_last};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> relu_pool_lrn_cpu(
    const at::Tensor& input, at::IntArrayRef kernel, at::IntArrayRef stride,
    at::IntArrayRef padding, at::IntArrayRef out_size, bool relu, int64_t local_size, double alpha,
    double beta, double k) {
  const char* op = "relu_pool_lrn";
  const LrnParams lrn = lrn_params(op, input, local_size, alpha, beta, k, false);
  const PoolOutputs out = pool_outputs(op, input, {kernel, stride, padding, out_size});
  const at::Tensor normed = at::empty_like(out.output);
  run_for_cpu_type(op, out.input, [&](auto zero) {
    using T = decltype(zero);
    const T* x = out.input.const_data_ptr<T>();
    T* pooled = out.output.mutable_data_ptr<T>();
    T* y = normed.mutable_data_ptr<T>();
    uint8_t* tap = out.tap.mutable_data_ptr<uint8_t>();
    const int64_t in_image = out.sizes.channels * out.sizes.pixels(),
                  out_image = out.sizes.channels * out.sizes.out_pixels();
    run_stages(out.sizes, [&](int64_t n, const PoolSizes& s) {
      const int64_t o = n * out_image;
      max_pool_forward_cpu(x + n * in_image, pooled + o, tap + o, s, relu);
      lrn_forward_cpu(pooled + o, y + o, pooled_shape(s), lrn);
    });
  });
  return {normed, out.output, out.tap};
}

at::Tensor relu_pool_lrn_backward_cpu(const at::Tensor& grad, const at::Tensor& pooled,
                                      const at::Tensor& tap, int64_t height, int64_t width,
                                      at::IntArrayRef kernel, at::IntArrayRef stride,
                                      at::IntArrayRef padding, int64_t local_size, double alpha,
                                      double beta, double k) {
  const char* op = "relu_pool_lrn_backward";
  const LrnParams lrn = lrn_params(op, pooled, local_size, alpha, beta, k, false);
  check_same_shape(op, "grad", grad, "pooled", pooled);
  check_same_type(op, "grad", grad, "pooled", pooled);
  const PoolGradient g = pool_gradient(op, grad, tap, height, width, {kernel, stride, padding, {}});
  const at::Tensor p = pooled.contiguous(pool_layout(g.tap));
  run_for_cpu_type(op, g.grad, [&](auto zero) {
    using T = decltype(zero);
    const T *dy = g.grad.const_data_ptr<T>(), *x = p.const_data_ptr<T>();
    const uint8_t* taps = g.tap.const_data_ptr<uint8_t>();
    T* dx = g.input_grad.mutable_data_ptr<T>();
    const int64_t in_image = g.sizes.channels * g.sizes.pixels(),
                  out_image = g.sizes.channels * g.sizes.out_pixels();
    run_stages(g.sizes, [&](int64_t n, const PoolSizes& s) {
      const int64_t o = n * out_image;
      std::unique_ptr<T[]> pooled_grad(new T[s.batch * out_image]);
      lrn_backward_cpu(dy + o, x + o, pooled_grad.get(), pooled_shape(s), lrn);
      max_pool_backward_cpu(pooled_grad.get(), taps + o, dx + n * in_image, s);
    });
  });
  return g.input_grad;
}

// The CPU kernels have no 16-bit form.  On CUDA there is nothing to cast.
std::tuple<at::Tensor, at::Tensor> max_pool_autocast_cpu(const at::Tensor& input,
                                                         at::IntArrayRef kernel,
                                                         at::IntArrayRef stride,
                                                         at::IntArrayRef padding,
                                                         at::IntArrayRef out_size, bool relu) {
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::DispatchKey::AutocastCPU);
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("caffe_compat::max_pool", "")
                             .typed<decltype(max_pool_cpu)>();
  return op.call(at::autocast::cached_cast(at::kFloat, input, c10::DeviceType::CPU), kernel, stride,
                 padding, out_size, relu);
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> relu_pool_lrn_autocast_cpu(
    const at::Tensor& input, at::IntArrayRef kernel, at::IntArrayRef stride,
    at::IntArrayRef padding, at::IntArrayRef out_size, bool relu, int64_t local_size, double alpha,
    double beta, double k) {
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::DispatchKey::AutocastCPU);
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("caffe_compat::relu_pool_lrn", "")
                             .typed<decltype(relu_pool_lrn_cpu)>();
  return op.call(at::autocast::cached_cast(at::kFloat, input, c10::DeviceType::CPU), kernel, stride,
                 padding, out_size, relu, local_size, alpha, beta, k);
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(caffe_compat, m) {
  // Maximum and winning tap of each window; with `relu` max(input, 0) goes into the windows.
  m.def(
      "max_pool(Tensor input, int[2] kernel, int[2] stride, int[2] padding, int[2] out_size, bool "
      "relu) -> (Tensor output, Tensor tap)");
  m.def(
      "max_pool_backward(Tensor grad, Tensor tap, SymInt height, SymInt width, int[2] kernel, "
      "int[2] stride, int[2] padding) -> Tensor");
  // LRN across channels of max_pool's output; also that output, and the winning taps.
  m.def(
      "relu_pool_lrn(Tensor input, int[2] kernel, int[2] stride, int[2] padding, int[2] out_size, "
      "bool relu, int local_size, float alpha, float beta, float k) -> (Tensor output, Tensor "
      "pooled, Tensor tap)");
  m.def(
      "relu_pool_lrn_backward(Tensor grad, Tensor pooled, Tensor tap, SymInt height, SymInt width, "
      "int[2] kernel, int[2] stride, int[2] padding, int local_size, float alpha, float beta, "
      "float k) -> Tensor");
}

TORCH_LIBRARY_IMPL(caffe_compat, CPU, m) {
  m.impl("max_pool", max_pool_cpu);
  m.impl("max_pool_backward", max_pool_backward_cpu_op);
  m.impl("relu_pool_lrn", relu_pool_lrn_cpu);
  m.impl("relu_pool_lrn_backward", relu_pool_lrn_backward_cpu);
}

TORCH_LIBRARY_IMPL(caffe_compat, AutocastCPU, m) {
  m.impl("max_pool", max_pool_autocast_cpu);
  m.impl("relu_pool_lrn", relu_pool_lrn_autocast_cpu);
}

}  // namespace caffe_compat
