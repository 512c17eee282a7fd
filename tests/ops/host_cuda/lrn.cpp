// The CUDA kernels of LRN behind a C interface, for run_cases.py.
#include "host_cuda/device_array.h"
#include "lrn/lrn_kernels.cuh"

namespace {

using namespace caffe_compat;

// forward: out = y; backward (dy given): out = dx.  Arrays are dense, in the layout that the shape
// states; the first sizes[0] - `images` images have addresses only, and nobody asks for their
// results.  most: of lrn_backward_cuda, 0 for its default.
template <typename T>
void run(const T* x, const T* dy, T* out, const int64_t (&sizes)[4], int64_t images, int64_t most,
         bool channels_last, const LrnParams& params, unsigned seed) {
  host_cuda::Machine& machine = host_cuda::Machine::get();
  machine.random.seed(seed);
  machine.last_blocks = images < sizes[0] ? 64 : UINT64_MAX;
  if (most == 0) most = lrn_cuda::kTouchedMost<T>;
  const LrnShape shape{.batch = sizes[0],
                       .channels = sizes[1],
                       .height = sizes[2],
                       .width = sizes[3],
                       .channels_last = channels_last};
  const int64_t image = sizes[1] * sizes[2] * sizes[3];
  const int64_t count = images * image, before = (sizes[0] - images) * image;
  const DeviceArray<T> device_x(x, count, before), device_out(count, before);
  if (dy == nullptr) {
    lrn_forward_cuda(device_x.get(), device_out.get(), shape, params, nullptr, most);
  } else {
    const DeviceArray<T> device_dy(dy, count, before);
    lrn_backward_cuda(device_dy.get(), device_x.get(), device_out.get(), shape, params, nullptr,
                      most);
  }
  device_out.copy_to(out);
}

}  // namespace

#define EXPORT(name, T)                                                                            \
  extern "C" void name(const T* x, const T* dy, T* out, int64_t n, int64_t c, int64_t h,           \
                       int64_t w, bool channels_last, int64_t size, double alpha, double beta,     \
                       double k, bool within_channel, int64_t images, int64_t most,                \
                       unsigned seed) {                                                            \
    run<T>(x, dy, out, {n, c, h, w}, images, most, channels_last,                                  \
           {.size = size, .alpha = alpha, .beta = beta, .k = k, .within_channel = within_channel}, \
           seed);                                                                                  \
  }
EXPORT(lrn_float32, float)
EXPORT(lrn_float64, double)
EXPORT(lrn_float16, c10::Half)
EXPORT(lrn_bfloat16, c10::BFloat16)
