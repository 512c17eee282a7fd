// The CUDA kernels of max pooling behind a C interface, for run_cases.py.
#include "host_cuda/device_array.h"
#include "pool/pool_kernels.cuh"

namespace {

using namespace caffe_compat;

enum What { kOutput, kPooled, kTaps, kGradient };  // what `out` gets

template <typename T>
void check_same_bits(const DeviceArray<T>& a, const DeviceArray<T>& b, int64_t count) {
  if (count > 0 && std::memcmp(a.values(), b.values(), count * sizeof(T)) != 0) {
    host_cuda::fail("the fused kernel and the kernels one by one differ");
  }
}

// Elements of the last `images` images, and of those before, which have addresses only.
struct Counts {
  int64_t in, in_before, out, out_before;

  Counts(const PoolSizes& s, int64_t images)
      : in(images * s.channels * s.pixels()),
        in_before((s.batch - images) * s.channels * s.pixels()),
        out(images * s.channels * s.out_pixels()),
        out_before((s.batch - images) * s.channels * s.out_pixels()) {}
};

template <typename T>
void forward(int64_t what, const T* x, T* out, const PoolSizes& s, const Counts& n, bool relu,
             const LrnParams* lrn) {
  const DeviceArray<T> device_x(x, n.in, n.in_before);
  const DeviceArray<T> pooled(n.out, n.out_before), y(n.out, n.out_before);
  const DeviceArray<uint8_t> tap(n.out, n.out_before);
  max_pool_cuda(device_x.get(), pooled.get(), tap.get(), s, relu, nullptr);
  if (lrn) {
    lrn_forward_cuda(pooled.get(), y.get(), pool_cuda::pooled_shape(s), *lrn, nullptr);
    const DeviceArray<T> fused_pooled(n.out, n.out_before), fused_y(n.out, n.out_before);
    const DeviceArray<uint8_t> fused_tap(n.out, n.out_before);
    relu_pool_lrn_cuda(device_x.get(), fused_pooled.get(), fused_tap.get(), fused_y.get(), s, relu,
                       *lrn, nullptr);
    check_same_bits(y, fused_y, n.out);
    check_same_bits(pooled, fused_pooled, n.out);
    check_same_bits(tap, fused_tap, n.out);
  }
  if (what != kTaps) return (what == kOutput ? y : pooled).copy_to(out);
  for (int64_t i = 0; i < n.out; ++i) {
    out[i] = static_cast<T>(static_cast<float>(tap.values()[i]));
  }
}

// dy: gradient of LRN's output or, without it, of the pooled values.
template <typename T>
void backward(const T* dy, const T* pooled, const uint8_t* tap, T* out, const PoolSizes& s,
              const Counts& n, const LrnParams* lrn) {
  const DeviceArray<T> device_dy(dy, n.out, n.out_before), dx(n.in, n.in_before);
  const DeviceArray<uint8_t> device_tap(tap, n.out, n.out_before);
  if (lrn) {
    const DeviceArray<T> device_pooled(pooled, n.out, n.out_before);
    const DeviceArray<T> between(n.out, n.out_before), fused(n.in, n.in_before);
    lrn_backward_cuda(device_dy.get(), device_pooled.get(), between.get(),
                      pool_cuda::pooled_shape(s), *lrn, nullptr);
    max_pool_backward_cuda(between.get(), device_tap.get(), dx.get(), s, nullptr);
    const int64_t needed = relu_pool_lrn_workspace(s, *lrn);
    const DeviceArray<T> workspace(needed ? n.out : 0, needed ? n.out_before : 0);
    relu_pool_lrn_backward_cuda(device_dy.get(), device_pooled.get(), device_tap.get(), fused.get(),
                                workspace.get(), s, *lrn, nullptr);
    check_same_bits(dx, fused, n.in);
  } else {
    max_pool_backward_cuda(device_dy.get(), device_tap.get(), dx.get(), s, nullptr);
  }
  dx.copy_to(out);
}

// sizes: N, C, H, W, then (height, width) of output, kernel, stride and padding, channels last.
// local_size 0: no LRN.
template <typename T>
void run(int64_t what, const T* x, const T* dy, const T* pooled, const uint8_t* tap, T* out,
         const int64_t* n, int64_t images, bool relu, const LrnParams& params, unsigned seed) {
  host_cuda::Machine& machine = host_cuda::Machine::get();
  machine.random.seed(seed);
  machine.last_blocks = images < n[0] ? 64 : UINT64_MAX;
  const PoolSizes s{.batch = n[0],
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
  const Counts counts(s, images);
  const LrnParams* lrn = params.size > 0 ? &params : nullptr;
  if (what == kGradient) return backward(dy, pooled, tap, out, s, counts, lrn);
  forward(what, x, out, s, counts, relu, lrn);
}

}  // namespace

#define EXPORT(name, T)                                                                            \
  extern "C" void name(int64_t what, const T* x, const T* dy, const T* pooled, const uint8_t* tap, \
                       T* out, const int64_t* sizes, int64_t images, bool relu, int64_t size,      \
                       double alpha, double beta, double k, unsigned seed) {                       \
    run<T>(what, x, dy, pooled, tap, out, sizes, images, relu,                                     \
           {.size = size, .alpha = alpha, .beta = beta, .k = k, .within_channel = false}, seed);   \
  }
EXPORT(pool_float32, float)
EXPORT(pool_float64, double)
EXPORT(pool_float16, c10::Half)
EXPORT(pool_bfloat16, c10::BFloat16)
