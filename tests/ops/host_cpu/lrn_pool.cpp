// The CPU kernels of LRN and max pooling behind the interfaces of host_cuda/lrn.cpp and
// host_cuda/pool.cpp, so that the same calls test them under sanitizers.
#include "host_cuda/device_array.h"
#include "lrn/lrn_cpu.h"
#include "pool/pool_cpu.h"

namespace {

using namespace caffe_compat;

template <typename T>
void run_lrn(const T* x, const T* dy, T* out, const LrnShape& s, const LrnParams& params) {
  const int64_t count = s.batch * s.channels * s.height * s.width;
  const DeviceArray<T> own_x(x, count), result(count);
  if (dy == nullptr) {
    lrn_forward_cpu(own_x.get(), result.get(), s, params);
  } else {
    const DeviceArray<T> own_dy(dy, count);
    lrn_backward_cpu(own_dy.get(), own_x.get(), result.get(), s, params);
  }
  result.copy_to(out);
}

PoolSizes read_sizes(const int64_t* n) {
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
          .channels_last = n[12] != 0};
}

enum What { kOutput, kPooled, kTaps, kGradient };  // what `out` gets

template <typename T>
void run_pool(int64_t what, const T* x, const T* dy, const T* pooled, const uint8_t* tap, T* out,
              const PoolSizes& s, bool relu, const LrnParams& lrn) {
  const int64_t in = s.batch * s.channels * s.pixels(), n = s.batch * s.channels * s.out_pixels();
  const LrnShape shape{.batch = s.batch,
                       .channels = s.channels,
                       .height = s.out_height,
                       .width = s.out_width,
                       .channels_last = s.channels_last};
  if (what == kGradient) {
    const DeviceArray<T> own_dy(dy, n), own_pooled(pooled, n), between(n), dx(in);
    const DeviceArray<uint8_t> own_tap(tap, n);
    if (lrn.size > 0) lrn_backward_cpu(own_dy.get(), own_pooled.get(), between.get(), shape, lrn);
    max_pool_backward_cpu(lrn.size > 0 ? between.get() : own_dy.get(), own_tap.get(), dx.get(), s);
    return dx.copy_to(out);
  }
  const DeviceArray<T> own_x(x, in), maxima(n), y(n);
  const DeviceArray<uint8_t> taps(n);
  max_pool_forward_cpu(own_x.get(), maxima.get(), taps.get(), s, relu);
  if (lrn.size > 0) lrn_forward_cpu(maxima.get(), y.get(), shape, lrn);
  if (what != kTaps) return (what == kOutput ? y : maxima).copy_to(out);
  for (int64_t i = 0; i < n; ++i) out[i] = static_cast<T>(taps.values()[i]);
}

}  // namespace

#define EXPORT(suffix, T)                                                                         \
  extern "C" void lrn_##suffix(const T* x, const T* dy, T* out, int64_t n, int64_t c, int64_t h,  \
                               int64_t w, bool channels_last, int64_t size, double alpha,         \
                               double beta, double k, bool within_channel, int64_t, int64_t,      \
                               unsigned) {                                                        \
    run_lrn<T>(                                                                                   \
        x, dy, out,                                                                               \
        {.batch = n, .channels = c, .height = h, .width = w, .channels_last = channels_last},     \
        {.size = size, .alpha = alpha, .beta = beta, .k = k, .within_channel = within_channel});  \
  }                                                                                               \
  extern "C" void pool_##suffix(int64_t what, const T* x, const T* dy, const T* pooled,           \
                                const uint8_t* tap, T* out, const int64_t* n, int64_t, bool relu, \
                                int64_t size, double alpha, double beta, double k, unsigned) {    \
    run_pool<T>(what, x, dy, pooled, tap, out, read_sizes(n), relu,                               \
                {.size = size, .alpha = alpha, .beta = beta, .k = k, .within_channel = false});   \
  }
EXPORT(float32, float)
EXPORT(float64, double)
