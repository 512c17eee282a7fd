// The CUDA kernels of convolution behind a C interface, for run_cases.py.
#include "conv/conv_kernels.cuh"
#include "conv/nhwc/nhwc_kernels.cuh"
#include "host_cuda/device_array.h"

namespace {

using namespace caffe_compat;

struct Call {
  int64_t what;  // 0 output, 1 input gradient, 2 weight gradient
  ConvSizes s;
  ConvMath math;
  bool relu, weight_channels_last;

  int64_t x_count() const { return s.batch * s.channels * s.pixels(); }
  int64_t y_count() const { return s.batch * s.outputs * s.out_pixels(); }
  int64_t weight_count() const { return s.outputs * s.depth(); }
  int64_t result_count() const {
    return what == 0 ? y_count() : what == 1 ? x_count() : weight_count();
  }
};

// first and second are the product's operands.
template <typename T>
void run_nchw(const Call& c, const T* first, const T* second, const T* bias, T* result) {
  if (c.what == 0) {
    conv_forward_cuda(first, second, bias, result, c.s, c.relu, c.math, nullptr);
  } else if (c.what == 1) {
    conv_input_grad_cuda(first, second, result, c.s, c.math, nullptr);
  } else {
    const DeviceArray<compute_t<T>> partial(conv_weight_grad_splits(c.s) * c.weight_count());
    conv_weight_grad_cuda(first, second, result, partial.get(), c.s, c.math, nullptr);
  }
}

template <typename T>
void run_nhwc(const Call& c, const T* first, const T* second, const T* bias, T* result) {
  if (!nhwc_fits<T>(c.s)) std::abort();
  const DeviceArray<T> repacked(
      c.what == 2 ? 0 : conv_nhwc_repacked_count<T>(c.s, c.math, c.what == 1));
  if (c.what == 0) {
    conv_nhwc_forward_cuda(first, second, c.weight_channels_last, repacked.get(), bias, result, c.s,
                           c.relu, c.math, nullptr);
  } else if (c.what == 1) {
    conv_nhwc_input_grad_cuda(first, second, c.weight_channels_last, repacked.get(), result, c.s,
                              c.math, nullptr);
  } else {
    const DeviceArray<float> partial(conv_nhwc_weight_grad_splits<T>(c.s, c.math) *
                                     c.weight_count());
    conv_nhwc_weight_grad_cuda(first, second, result, partial.get(), c.s, c.math, nullptr);
  }
}

template <typename T>
void run(const Call& c, const T* first, const T* second, const T* bias, T* out, bool channels_last,
         unsigned seed) {
  host_cuda::Machine::get().random.seed(seed);
  const DeviceArray<T> a(first, c.what == 0 ? c.x_count() : c.y_count());
  const DeviceArray<T> b(second, c.what == 2 ? c.x_count() : c.weight_count());
  const DeviceArray<T> device_bias(bias, bias ? c.s.outputs : 0);
  const DeviceArray<T> result(c.result_count());
  const T* const given_bias = bias ? device_bias.get() : nullptr;
  if constexpr (!std::is_same_v<T, double>) {
    if (channels_last) run_nhwc(c, a.get(), b.get(), given_bias, result.get());
  }
  if constexpr (!std::is_same_v<T, c10::Half>) {  // as bfloat16 there: TF32
    if (!channels_last) run_nchw(c, a.get(), b.get(), given_bias, result.get());
  }
  result.copy_to(out);
}

// The fields of ConvSizes in their order.
ConvSizes read_sizes(const int64_t* sizes) {
  ConvSizes s;
  std::memcpy(&s, sizes, sizeof s);
  return s;
}

}  // namespace

#define EXPORT(name, T)                                                                      \
  extern "C" void name(int64_t what, const T* first, const T* second, const T* bias, T* out, \
                       const int64_t* sizes, int64_t math, bool relu, bool channels_last,    \
                       bool weight_channels_last, unsigned seed) {                           \
    run<T>({.what = what,                                                                    \
            .s = read_sizes(sizes),                                                          \
            .math = static_cast<ConvMath>(math),                                             \
            .relu = relu,                                                                    \
            .weight_channels_last = weight_channels_last},                                   \
           first, second, bias, out, channels_last, seed);                                   \
  }
EXPORT(conv_float32, float)
EXPORT(conv_float64, double)
EXPORT(conv_float16, c10::Half)
EXPORT(conv_bfloat16, c10::BFloat16)

// Index arithmetic for sizes that no test can hold in memory: for each pixel of y (computed ones of
// the input gradient's first product) the element offset in x of the one under tap (kh, kw) of the
// convolution, -1 in the padding; then the pixel's place in y.
extern "C" void conv_offsets_float64(const int64_t* sizes, const int64_t* pixels, int64_t count,
                                     int64_t kh, int64_t kw, bool input_grad, int64_t first_h,
                                     int64_t first_w, double* out, unsigned) {
  using namespace nhwc_cuda;
  const ConvSizes s = read_sizes(sizes);
  if (!nhwc_fits<float>(s)) std::abort();
  const auto g = input_grad ? GatherSizes::input_grad(s, first_h, first_w) : GatherSizes::output(s);
  for (int64_t i = 0; i < count; ++i) {
    const auto at = static_cast<uint32_t>(pixels[i]);
    const GatherPixel pixel(g, at);
    out[2 * i] = -1;
    out[2 * i + 1] = static_cast<double>(place_in_y(g, at));
    for (int t = 0; t < g.taps(); ++t) {
      if (g.h.first_tap + t / g.w.taps * g.h.tap_step != kh ||
          g.w.first_tap + t % g.w.taps * g.w.tap_step != kw) {
        continue;
      }
      const GatherTap tap(g, t);
      if ((pixel.outside & tap.bits) != 0) continue;
      out[2 * i] = static_cast<double>((int64_t{pixel.first} + tap.behind) * g.channels);
    }
  }
}

// The same in the NCHW kernel: the offset of the pixel's image and group, and its first tap's row
// and column.
extern "C" void conv_column_origins_float64(const int64_t* sizes, const int64_t* pixels,
                                            int64_t count, int64_t group, double* out, unsigned) {
  const auto base = reinterpret_cast<const float*>(uintptr_t{1} << 20);
  const conv_cuda::OutputGemm<float> gemm(base, base, nullptr, nullptr, read_sizes(sizes), false);
  for (int64_t i = 0; i < count; ++i) {
    const auto origin = gemm.column_origin(group, pixels[i]);
    out[3 * i] = static_cast<double>(origin.image - base);
    out[3 * i + 1] = origin.top;
    out[3 * i + 2] = origin.left;
  }
}

// Quotient and rest of each number.
extern "C" void divide_float64(const int64_t* numbers, const int64_t* divisors, int64_t count,
                               double* out, unsigned) {
  for (int64_t i = 0; i < count; ++i) {
    uint32_t rest;
    out[2 * i] = conv_cuda::Divider(divisors[i]).divmod(static_cast<uint32_t>(numbers[i]), rest);
    out[2 * i + 1] = rest;
  }
}
