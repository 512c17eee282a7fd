// The CUDA kernels of convolution behind a C interface, for run_cases.py.
#include "conv/conv_kernels.cuh"
#include "device_memory.h"

namespace {

using namespace caffe_compat;

// what: 0 output, 1 input gradient, 2 weight gradient; first and second are the product's operands.
template <typename T>
void run(int64_t what, const T* first, const T* second, const T* bias, T* out, const ConvSizes& s,
         ConvMath math, unsigned seed) {
  host_cuda::Machine::get().random.seed(seed);
  const int64_t x_count = s.batch * s.channels * s.pixels(),
                y_count = s.batch * s.outputs * s.out_pixels();
  const int64_t weight_count = s.outputs * s.depth();
  const DeviceArray<T> a(first, what == 0 ? x_count : y_count);
  const DeviceArray<T> b(second, what == 2 ? x_count : weight_count);
  const DeviceArray<T> result(what == 0 ? y_count : what == 1 ? x_count : weight_count);
  if (what == 0) {
    const DeviceArray<T> device_bias(bias, bias ? s.outputs : 0);
    conv_forward_cuda(a.get(), b.get(), bias ? device_bias.get() : nullptr, result.get(), s, math,
                      nullptr);
  } else if (what == 1) {
    conv_input_grad_cuda(a.get(), b.get(), result.get(), s, math, nullptr);
  } else {
    const DeviceArray<compute_t<T>> partial(conv_weight_grad_parts(s) * weight_count);
    conv_weight_grad_cuda(a.get(), b.get(), result.get(), partial.get(), s, math, nullptr);
  }
  result.copy_to(out);
}

}  // namespace

#define EXPORT(name, T)                                                                      \
  extern "C" void name(int64_t what, const T* first, const T* second, const T* bias, T* out, \
                       const int64_t* sizes, int64_t math, unsigned seed) {                  \
    ConvSizes s;                                                                             \
    std::memcpy(&s, sizes, sizeof s);                                                        \
    run<T>(what, first, second, bias, out, s, static_cast<ConvMath>(math), seed);            \
  }
EXPORT(conv_float32, float)
EXPORT(conv_float64, double)
EXPORT(conv_bfloat16, c10::BFloat16)
