// The CUDA kernels of pool_parts behind a C interface, for run_cases.py.
#include "host_cuda/device_parts.h"
#include "pool/pool_parts_kernels.cuh"

namespace {

using namespace caffe_compat;

enum What { kOutput, kPooled, kTaps, kInputGrad };  // what `out` gets

// The arrays of a call, on the host.
template <typename T>
struct HostArrays {
  const T *x, *dy, *pooled;  // dy in the parts of the output
  const uint8_t* tap;
  const T* narrow;  // bias
  const float* wide;
  T* out;
  float* sums;  // or the bias's gradient here
};

// n: N, C, H, W, then (height, width) of output, kernel, stride and padding, then the parts of the
// input and of the output.
PoolSizes pool_sizes(const int64_t* n) {
  return {.batch = n[0],
          .channels = n[1],
          .height = n[2],
          .width = n[3],
          .out_height = n[4],
          .out_width = n[5],
          .kernel_h = n[6],
          .kernel_w = n[7],
          .stride_h = n[8],
          .stride_w = n[9],
          .pad_h = n[10],
          .pad_w = n[11],
          .channels_last = true};
}

template <typename T>
void forward(int64_t what, const HostArrays<T>& host, const int64_t* n, bool relu,
             const LrnParams& lrn) {
  const PoolSizes s = pool_sizes(n);
  const int64_t out_pixels = s.batch * s.out_pixels(), outputs = out_pixels * s.channels;
  const DeviceParts<T> x(host.x, n[12], s.batch * s.pixels(), s.channels);
  const DeviceParts<T> output(n[13], out_pixels, s.channels);
  const DeviceArray<T> narrow(host.narrow, host.narrow ? s.channels : 0);
  const DeviceArray<float> wide(host.wide, host.wide ? s.channels : 0);
  const DeviceArray<T> pooled(lrn.size > 0 ? outputs : 0);
  const DeviceArray<uint8_t> tap(outputs);
  const ChannelBias<T> bias{host.narrow ? narrow.get() : nullptr, host.wide ? wide.get() : nullptr};
  pool_parts_cuda<T>(x.template get<const T>(), bias, output.template get<T>(), pooled.get(),
                     tap.get(), s, relu, lrn, nullptr);
  if (what == kOutput) return output.copy_to(host.out);
  if (what == kPooled) return pooled.copy_to(host.out);
  for (int64_t i = 0; i < outputs; ++i) {
    host.out[i] = static_cast<T>(static_cast<float>(tap.values()[i]));
  }
}

template <typename T>
void backward(const HostArrays<T>& host, const int64_t* n, const LrnParams& lrn) {
  const PoolSizes s = pool_sizes(n);
  const int64_t out_pixels = s.batch * s.out_pixels(), outputs = out_pixels * s.channels;
  const DeviceParts<T> dy(host.dy, n[13], out_pixels, s.channels);
  const DeviceParts<T> dx(n[12], s.batch * s.pixels(), s.channels);
  const DeviceArray<T> pooled(host.pooled, lrn.size > 0 ? outputs : 0);
  const DeviceArray<uint8_t> tap(host.tap, outputs);
  const DeviceArray<float> bias_grad(s.channels), rows(pool_parts_rows<T>(s) * s.channels);
  pool_parts_backward_cuda<T>(dy.template get<const T>(), pooled.get(), tap.get(),
                              dx.template get<T>(), bias_grad.get(), rows.get(), s, lrn, nullptr);
  if (host.sums != nullptr) return bias_grad.copy_to(host.sums);
  dx.copy_to(host.out);
}

// local_size 0: no LRN.
LrnParams lrn_of(int64_t local_size, double alpha, double beta, double k) {
  return {.size = local_size, .alpha = alpha, .beta = beta, .k = k, .within_channel = false};
}

}  // namespace

// sums_* returns the bias's gradient, which is float32 for every T.
#define EXPORT(name, T)                                                                            \
  extern "C" void pool_parts_##name(int64_t what, const T* x, const T* dy, const T* pooled,        \
                                    const uint8_t* tap, const T* narrow, const float* wide,        \
                                    T* out, const int64_t* sizes, bool relu, int64_t local_size,   \
                                    double alpha, double beta, double k, unsigned seed) {          \
    host_cuda::Machine::get().random.seed(seed);                                                   \
    const HostArrays<T> host{x, dy, pooled, tap, narrow, wide, out, nullptr};                      \
    const LrnParams lrn = lrn_of(local_size, alpha, beta, k);                                      \
    if (what == kInputGrad) return backward<T>(host, sizes, lrn);                                  \
    forward<T>(what, host, sizes, relu, lrn);                                                      \
  }                                                                                                \
  extern "C" void pool_sums_##name##_float32(const T* dy, const T* pooled, const uint8_t* tap,     \
                                             float* out, const int64_t* sizes, int64_t local_size, \
                                             double alpha, double beta, double k, unsigned seed) { \
    host_cuda::Machine::get().random.seed(seed);                                                   \
    const HostArrays<T> host{nullptr, dy, pooled, tap, nullptr, nullptr, nullptr, out};            \
    backward<T>(host, sizes, lrn_of(local_size, alpha, beta, k));                                  \
  }
EXPORT(float32, float)
EXPORT(float16, c10::Half)
EXPORT(bfloat16, c10::BFloat16)
