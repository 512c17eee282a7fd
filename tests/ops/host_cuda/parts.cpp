// The CUDA kernels of bias_relu_parts behind a C interface, for run_cases.py.
#include "host_cuda/device_parts.h"
#include "parts/parts_kernels.cuh"

namespace {

using namespace caffe_compat;

enum What { kOutput, kInputGrad, kBiasGrad };  // what `out` gets

// sizes: pixels, channels, parts of x, parts of the result.  x: input or grad, in its parts; output
// has the parts of grad; bias: none, T or float32.
template <typename T>
void run(int64_t what, const T* x, const T* output, const T* narrow, const float* wide, T* out,
         float* sums, const int64_t* sizes, bool relu, double scale, unsigned seed) {
  host_cuda::Machine::get().random.seed(seed);
  const int64_t pixels = sizes[0], channels = sizes[1];
  const DeviceParts<T> device_x(x, sizes[2], pixels, channels);
  const DeviceParts<T> result(sizes[3], pixels, channels);
  if (what == kOutput) {
    const DeviceArray<T> narrow_bias(narrow, narrow ? channels : 0);
    const DeviceArray<float> wide_bias(wide, wide ? channels : 0);
    const ChannelBias<T> bias{narrow ? narrow_bias.get() : nullptr,
                              wide ? wide_bias.get() : nullptr};
    bias_relu_parts_cuda<T>(device_x.template get<const T>(), result.template get<T>(), bias,
                            pixels, channels, relu, nullptr);
    return result.copy_to(out);
  }
  const DeviceParts<T> device_output(output, sizes[2], pixels, channels);
  const DeviceArray<float> bias_grad(channels), rows(bias_relu_parts_rows() * channels);
  bias_relu_parts_backward_cuda<T>(device_x.template get<const T>(),
                                   device_output.template get<const T>(), result.template get<T>(),
                                   bias_grad.get(), rows.get(), pixels, channels, relu,
                                   static_cast<float>(scale), nullptr);
  if (what == kInputGrad) return result.copy_to(out);
  bias_grad.copy_to(sums);
}

}  // namespace

// sums_* returns the bias's gradient, which is float32 for every T.
#define EXPORT(name, T)                                                                     \
  extern "C" void parts_##name(int64_t what, const T* x, const T* output, const T* narrow,  \
                               const float* wide, T* out, const int64_t* sizes, bool relu,  \
                               double scale, unsigned seed) {                               \
    run<T>(what, x, output, narrow, wide, out, nullptr, sizes, relu, scale, seed);          \
  }                                                                                         \
  extern "C" void sums_##name##_float32(const T* x, const T* output, float* out,            \
                                        const int64_t* sizes, bool relu, double scale,      \
                                        unsigned seed) {                                    \
    run<T>(kBiasGrad, x, output, nullptr, nullptr, nullptr, out, sizes, relu, scale, seed); \
  }
EXPORT(float32, float)
EXPORT(float16, c10::Half)
EXPORT(bfloat16, c10::BFloat16)
