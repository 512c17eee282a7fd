// Runs the kernels of inference.h on buffers of exactly their sizes, one task at a time and the
// last task first, and compares them with the definition in double.  Built with AddressSanitizer
// and UBSan by tests/net/test_inference_program.py.

#include "inference/inference.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <random>
#include <string>
#include <vector>

using namespace caffe_compat;

namespace {

using Numbers = std::vector<float>;

constexpr double kTolerance = 1e-5;  // of the largest value

std::mt19937 generator(1);
bool failed = false;

Numbers random(int64_t size, float deviation = 1) {
  std::normal_distribution<float> normal(0, deviation);
  Numbers result(size);
  for (float& x : result) x = normal(generator);
  return result;
}

// Numbers of an image up to the last one that belongs to it.
int64_t extent(const Image& image) { return (image.pixels() - 1) * image.stride + image.channels; }

struct Blob {
  Image image;
  Numbers numbers;

  Blob(int64_t n, int64_t h, int64_t w, int64_t c, int64_t gap, bool poisoned)
      : image{nullptr, n, h, w, c, c + gap}, numbers(extent(image), NAN) {
    if (!poisoned) numbers = random(numbers.size());
    image.data = numbers.data();
  }
  double at(int64_t n, int64_t y, int64_t x, int64_t c) const {
    return numbers[((n * image.height + y) * image.width + x) * image.stride + c];
  }
};

// expected(n, y, x, c) for every number of `out`.
template <typename Expected>
void compare(const std::string& what, const Blob& out, const Expected& expected) {
  double largest = 1, error = 0;
  const Image& image = out.image;
  for (int64_t i = 0; i < image.pixels() * image.channels; ++i) {
    const int64_t c = i % image.channels, pixel = i / image.channels;
    const int64_t x = pixel % image.width, y = pixel / image.width % image.height;
    const int64_t n = pixel / image.width / image.height;
    const double wanted = expected(n, y, x, c);
    largest = std::fmax(largest, std::fabs(wanted));
    const double difference = std::fabs(out.at(n, y, x, c) - wanted);
    error = difference <= error ? error : difference;  // NaN stays
    if (std::isnan(difference)) break;
  }
  if (error <= kTolerance * largest) return;
  std::printf("%s: error %g of %g\n", what.c_str(), error, largest);
  failed = true;
}

template <typename Run>
void last_first(int64_t tasks, const Run& run) {
  for (int64_t task = tasks - 1; task >= 0; --task) run(TaskRange{task, task + 1});
}

struct Ends {
  Numbers bias, slopes;
  Epilogue epilogue;

  // `plain`: a ReLU, for which kernels have shorter ends.
  explicit Ends(int64_t outputs, bool plain = false)
      : bias(random(outputs)), slopes(random(outputs)) {
    epilogue.bias = bias.data();
    epilogue.floor = plain ? 0 : -2;
    if (plain) return;
    epilogue.slopes = slopes.data();
    epilogue.ceiling = 3;
  }
  double of(double sum, int64_t o) const {
    const double v = sum + bias[o];
    return std::clamp<double>(v < 0 && epilogue.slopes ? v * slopes[o] : v, epilogue.floor,
                              epilogue.ceiling);
  }
};

int64_t fitting(int64_t size, int64_t kernel, int64_t stride, int64_t pad, int64_t dilation) {
  return (size + 2 * pad - dilation * (kernel - 1) - 1) / stride + 1;
}

// Calls body(tap, y, x) for the taps inside the image of the window at output (y, x).
template <typename Body>
void for_each_tap(const Image& in, const Window& w, int64_t y, int64_t x, const Body& body) {
  for (int64_t tap = 0; tap < w.taps(); ++tap) {
    const int64_t row = y * w.stride_h - w.pad_h + tap / w.kernel_w * w.dilation_h;
    const int64_t column = x * w.stride_w - w.pad_w + tap % w.kernel_w * w.dilation_w;
    if (row >= 0 && row < in.height && column >= 0 && column < in.width) body(tap, row, column);
  }
}

void check_direct(const std::string& level, const InferenceKernels& kernels, int64_t n, int64_t h,
                  int64_t w, int64_t channels, int64_t outputs, int64_t groups,
                  const Window& window, int64_t gap, int threads) {
  const Blob in(n, h, w, channels, gap, false);
  Blob out(n, fitting(h, window.kernel_h, window.stride_h, 0, window.dilation_h),
           fitting(w, window.kernel_w, window.stride_w, 0, window.dilation_w), outputs, 3, true);
  const int64_t depth = channels / groups * window.taps();
  const Numbers weight = random(outputs * depth, std::sqrt(1.f / depth));
  Numbers packed(kernels.packed_size(outputs, groups, depth), NAN);
  kernels.pack_weights(weight.data(), outputs, groups, channels / groups, window.taps(),
                       packed.data());
  const Ends ends(outputs);
  const DirectConv conv = {in.image, out.image, window, groups, packed.data(), ends.epilogue};
  last_first(kernels.direct_tasks(conv, threads),
             [&](TaskRange tasks) { kernels.direct(conv, threads, tasks); });
  compare(level + " direct, channels " + std::to_string(channels), out,
          [&](int64_t image, int64_t y, int64_t x, int64_t o) {
            double sum = 0;
            const int64_t first = o / (outputs / groups) * (channels / groups);
            for_each_tap(in.image, window, y, x, [&](int64_t tap, int64_t row, int64_t column) {
              for (int64_t c = 0; c < channels / groups; ++c) {
                sum += in.at(image, row, column, first + c) *
                       weight[o * depth + c * window.taps() + tap];
              }
            });
            return ends.of(sum, o);
          });
}

void check_windows(const std::string& level, const InferenceKernels& kernels, int64_t h, int64_t w,
                   int64_t channels, const Window& window, bool plain = false) {
  const Blob in(2, h, w, channels, 2, false);
  const int64_t out_h = fitting(h, window.kernel_h, window.stride_h, window.pad_h, 1);
  const int64_t out_w = fitting(w, window.kernel_w, window.stride_w, window.pad_w, 1);
  const std::string size = std::to_string(h) + " x " + std::to_string(w);
  const Numbers weight = random(window.taps() * channels);
  const Ends ends(channels, plain);
  Blob out(2, out_h, out_w, channels, 1, true);
  const DepthwiseConv conv = {in.image, out.image, window, weight.data(), ends.epilogue};
  last_first(kernels.depthwise_tasks(conv),
             [&](TaskRange tasks) { kernels.depthwise(conv, tasks); });
  compare(level + " depthwise on " + size, out, [&](int64_t n, int64_t y, int64_t x, int64_t c) {
    double sum = 0;
    for_each_tap(in.image, window, y, x, [&](int64_t tap, int64_t row, int64_t column) {
      sum += in.at(n, row, column, c) * weight[tap * channels + c];
    });
    return ends.of(sum, c);
  });
  for (const bool average : {false, true}) {
    Blob pooled(2, out_h, out_w, channels, 1, true);
    const Pool pool = {in.image, pooled.image, window, average};
    last_first(2 * out_h, [&](TaskRange rows) { kernels.pool(pool, rows); });
    compare(level + (average ? " average of " : " maximum of ") + size, pooled,
            [&](int64_t n, int64_t y, int64_t x, int64_t c) {
              double sum = 0, most = -INFINITY;
              for_each_tap(in.image, window, y, x, [&](int64_t, int64_t row, int64_t column) {
                sum += in.at(n, row, column, c);
                most = std::fmax(most, in.at(n, row, column, c));
              });
              // Caffe's divisor: the window clipped to the padded input.
              const auto side = [](int64_t at, int64_t stride, int64_t pad, int64_t kernel,
                                   int64_t all) {
                const int64_t start = at * stride - pad;
                return std::min(start + kernel, all + pad) - start;
              };
              return average ? sum / (side(y, window.stride_h, window.pad_h, window.kernel_h, h) *
                                      side(x, window.stride_w, window.pad_w, window.kernel_w, w))
                             : most;
            });
  }
}

void check_separable(const std::string& level, const InferenceKernels& kernels, int64_t h,
                     int64_t w, int64_t channels, int64_t outputs, const Window& window,
                     int threads) {
  const Blob in(2, h, w, channels, 3, false);
  const int64_t out_h = fitting(h, window.kernel_h, window.stride_h, window.pad_h, 1);
  const int64_t out_w = fitting(w, window.kernel_w, window.stride_w, window.pad_w, 1);
  const Numbers first = random(window.taps() * channels);
  const Numbers second = random(outputs * channels, std::sqrt(1.f / channels));
  Numbers packed(kernels.packed_size(outputs, 1, channels), NAN);
  kernels.pack_weights(second.data(), outputs, 1, channels, 1, packed.data());
  const Ends first_ends(channels), ends(outputs);
  Blob out(2, out_h, out_w, outputs, 1, true);
  const Image between = {nullptr, 2, out_h, out_w, channels, channels};
  const SeparableConv conv = {
      {in.image, between, window, first.data(), first_ends.epilogue},
      {between, out.image, {1, 1, 1, 1, 0, 0, 1, 1}, 1, packed.data(), ends.epilogue}};
  last_first(kernels.separable_tasks(conv, threads), [&](TaskRange tasks) {
    Numbers scratch(kernels.separable_scratch(conv, threads), NAN);
    kernels.separable(conv, threads, scratch.data(), tasks);
  });
  compare(level + " separable, channels " + std::to_string(channels), out,
          [&](int64_t n, int64_t y, int64_t x, int64_t o) {
            double total = 0;
            for (int64_t c = 0; c < channels; ++c) {
              double sum = 0;
              for_each_tap(in.image, window, y, x, [&](int64_t tap, int64_t row, int64_t column) {
                sum += in.at(n, row, column, c) * first[tap * channels + c];
              });
              total += first_ends.of(sum, c) * second[o * channels + c];
            }
            return ends.of(total, o);
          });
}

void check_product(const std::string& level, const InferenceKernels& kernels, int64_t batch,
                   int64_t inputs, int64_t outputs) {
  const Numbers x = random(batch * inputs), weight = random(outputs * inputs);
  const Ends ends(outputs);
  Blob out(batch, 1, 1, outputs, 2, true);
  const Product product = {x.data(), weight.data(), batch,         inputs,
                           outputs,  outputs + 2,   ends.epilogue, out.numbers.data()};
  last_first(kernels.product_tasks(product),
             [&](TaskRange tasks) { kernels.product(product, tasks); });
  compare(level + " product", out, [&](int64_t n, int64_t, int64_t, int64_t o) {
    double sum = 0;
    for (int64_t i = 0; i < inputs; ++i) {
      sum += static_cast<double>(x[n * inputs + i]) * weight[o * inputs + i];
    }
    return ends.of(sum, o);
  });
}

void check_pointwise(const std::string& level, const InferenceKernels& kernels) {
  const Blob first(1, 3, 5, 37, 4, false), second(1, 3, 5, 37, 0, false);
  const Numbers scale = random(37);
  const Ends ends(37);
  Blob out(1, 3, 5, 37, 1, true);
  const Pointwise work = {first.image, out.image, second.image.data, 37,
                          2.f,         -.5f,      scale.data(),      ends.epilogue};
  last_first(15, [&](TaskRange pixels) { kernels.pointwise(work, pixels); });
  compare(level + " pointwise", out, [&](int64_t n, int64_t y, int64_t x, int64_t c) {
    return ends.of((2 * first.at(n, y, x, c) - .5 * second.at(n, y, x, c)) * scale[c], c);
  });
}

void check_level(const std::string& level, const InferenceKernels& kernels) {
  const Window point = {1, 1, 1, 1, 0, 0, 1, 1};
  check_direct(level, kernels, 1, 7, 7, 600, 70, 1, point, 0, 2);  // weights fetched ahead
  check_direct(level, kernels, 1, 7, 7, 33, 70, 1, point, 2, 2);   // all panels in a task
  check_direct(level, kernels, 2, 5, 9, 3, 16, 1, {3, 3, 2, 2, 0, 0, 1, 1}, 0, 1);
  check_direct(level, kernels, 1, 9, 8, 34, 66, 2, {3, 2, 1, 1, 0, 0, 2, 2}, 5, 3);
  check_direct(level, kernels, 1, 1, 1, 1, 1, 1, point, 0, 1);
  for (const int64_t stride : {1, 2, 3}) {
    check_windows(level, kernels, 9, 17, 21, {3, 3, stride, stride, 1, 1, 1, 1});
    check_windows(level, kernels, 3, 2, 16, {3, 3, stride, stride, 1, 1, 1, 1});
    check_windows(level, kernels, 9, 17, 21, {3, 3, stride, stride, 1, 1, 1, 1}, true);
  }
  check_windows(level, kernels, 6, 12, 33, {2, 5, 1, 2, 0, 3, 1, 1});
  check_separable(level, kernels, 9, 7, 21, 70, {3, 3, 1, 1, 1, 1, 1, 1}, 2);
  check_separable(level, kernels, 9, 7, 130, 70, {3, 3, 1, 1, 1, 1, 1, 1}, 2);
  check_separable(level, kernels, 12, 9, 16, 5, {3, 3, 2, 2, 1, 1, 1, 1}, 1);
  check_separable(level, kernels, 5, 30, 33, 40, {2, 5, 1, 2, 0, 3, 1, 1}, 3);
  for (const int64_t batch : {1, 3, 5}) check_product(level, kernels, batch, 77, 19);
  check_pointwise(level, kernels);
}

}  // namespace

int main() {
#ifdef ONLY_AVX2
  check_level("avx2", inference_avx2());
#else
  check_level("avx2", inference_avx2());
  if (__builtin_cpu_supports("avx512f")) check_level("avx512", inference_avx512());
#endif
  return failed;
}
