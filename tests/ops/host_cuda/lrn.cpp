// The CUDA kernels of LRN behind a C interface, for run_cases.py.
#include "device_memory.h"
#include "lrn/lrn_kernels.cuh"

namespace {

using namespace caffe_compat;

// forward: out = y; backward (dy given): out = dx.  Arrays are dense, in the layout that the shape
// states.
template <typename T>
void run(const T* x, const T* dy, T* out, const int64_t (&sizes)[4], bool channels_last,
         const LrnParams& params, unsigned seed) {
  host_cuda::Machine::get().random.seed(seed);
  const LrnShape shape{sizes[0], sizes[1], sizes[2], sizes[3], channels_last};
  const int64_t count = sizes[0] * sizes[1] * sizes[2] * sizes[3];
  const DeviceArray<T> device_x(x, count), device_out(count);
  if (dy == nullptr) {
    lrn_forward_cuda(device_x.get(), device_out.get(), shape, params, nullptr);
  } else {
    const DeviceArray<T> device_dy(dy, count);
    const DeviceArray<compute_t<T>> workspace(lrn_backward_workspace<T>(
        device_dy.get(), device_x.get(), device_out.get(), shape, params));
    lrn_backward_cuda(device_dy.get(), device_x.get(), device_out.get(), workspace.get(), shape,
                      params, nullptr);
  }
  device_out.copy_to(out);
}

}  // namespace

#define EXPORT(name, T)                                                                            \
  extern "C" void name(const T* x, const T* dy, T* out, int64_t n, int64_t c, int64_t h,           \
                       int64_t w, bool channels_last, int64_t size, double alpha, double beta,     \
                       double k, bool within_channel, unsigned seed) {                             \
    run<T>(x, dy, out, {n, c, h, w}, channels_last, {size, alpha, beta, k, within_channel}, seed); \
  }
EXPORT(lrn_float32, float)
EXPORT(lrn_float64, double)
EXPORT(lrn_bfloat16, c10::BFloat16)
