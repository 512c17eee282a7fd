// Runs the kernels of winograd.h and row_conv.h on buffers of exactly their sizes, one task at a
// time and the last task first, and compares them with the definition in double.  Built with
// sanitizers by tests/ops/test_conv_fast.py.

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "conv/conv.h"
#include "conv/row_conv.h"
#include "conv/winograd.h"

using namespace caffe_compat;

namespace {

using Floats = std::vector<float>;
using Doubles = std::vector<double>;

constexpr double kTolerance = 2e-5;  // of the largest value; tiles of 6 lose up to 4 bits

std::mt19937 generator(1);

Floats random(int64_t size) {
  std::normal_distribution<float> normal;
  Floats result(size);
  for (float& x : result) x = normal(generator);
  return result;
}

// What kernels write first: numbers left out show up.
Floats poisoned(int64_t size) { return Floats(size, NAN); }

struct Expected {
  Doubles output, input_grad, weight_grad;
};

// Tensors (N, H, W, C), weights (O, C / groups, kernel_h, kernel_w).
Expected by_definition(const ConvSizes& s, const Floats& x, const Floats& w, const Floats& bias,
                       const Floats& dy) {
  Expected e = {Doubles(dy.size()), Doubles(x.size()), Doubles(w.size())};
  for (int64_t n = 0; n < s.batch; ++n) {
    for (int64_t y = 0; y < s.out_height; ++y) {
      for (int64_t column = 0; column < s.out_width; ++column) {
        for (int64_t o = 0; o < s.outputs; ++o) {
          const int64_t at = ((n * s.out_height + y) * s.out_width + column) * s.outputs + o;
          const int64_t first = o / s.group_outputs() * s.group_channels();
          e.output[at] = bias[o];
          for (int64_t k = 0; k < s.depth(); ++k) {
            const int64_t c = k / s.taps(), kh = k / s.kernel_w % s.kernel_h, kw = k % s.kernel_w;
            const int64_t row = y * s.stride_h + kh * s.dilation_h - s.pad_h;
            const int64_t col = column * s.stride_w + kw * s.dilation_w - s.pad_w;
            if (row < 0 || row >= s.height || col < 0 || col >= s.width) continue;
            const int64_t from = ((n * s.height + row) * s.width + col) * s.channels + first + c;
            const int64_t weight = o * s.depth() + k;
            e.output[at] += static_cast<double>(x[from]) * w[weight];
            e.input_grad[from] += static_cast<double>(dy[at]) * w[weight];
            e.weight_grad[weight] += static_cast<double>(dy[at]) * x[from];
          }
        }
      }
    }
  }
  return e;
}

bool failed = false;

void compare(const std::string& what, const Floats& actual, const Doubles& expected, bool relu) {
  double largest = 1, error = 0;
  for (size_t i = 0; i < actual.size(); ++i) {
    const double wanted = relu ? std::fmax(expected[i], 0) : expected[i];
    largest = std::fmax(largest, std::fabs(wanted));
    const double difference = std::fabs(actual[i] - wanted);
    error = difference <= error ? error : difference;  // NaN stays
    if (std::isnan(difference)) break;
  }
  if (error <= kTolerance * largest) return;
  std::printf("%s: error %g of %g\n", what.c_str(), error, largest);
  failed = true;
}

void last_first(int64_t tasks, const std::function<void(TaskRange)>& run) {
  for (int64_t task = tasks - 1; task >= 0; --task) run({task, task + 1});
}

Floats winograd_output(const WinogradKernels& kernels, const WinogradShape& s, const Floats& x,
                       const WinogradWeights<const float>& w, const float* bias, bool relu) {
  Floats transformed = poisoned(kernels.weight_size(s));
  last_first(kernels.weight_tasks(s),
             [&](TaskRange tasks) { kernels.transform_weights(s, w, transformed.data(), tasks); });
  Floats out = poisoned(s.batch * s.out_height * s.out_width * s.outputs);
  last_first(kernels.output_tasks(s), [&](TaskRange tasks) {
    Floats scratch = poisoned(kernels.output_scratch(s));
    kernels.output(
        s,
        {.input = x.data(),
         .transformed = transformed.data(),
         .epilogue = {.bias = bias, .floor = relu ? 0 : -std::numeric_limits<float>::infinity()},
         .out = out.data(),
         .input_stride = s.channels,
         .out_stride = s.outputs},
        scratch.data(), tasks);
  });
  return out;
}

Floats winograd_weight_grad(const WinogradKernels& kernels, const WinogradShape& s, const Floats& x,
                            const Floats& dy, int64_t channel_taps) {
  // Two sums, the first of one chunk of tiles, the second of the rest.
  const int64_t size = kernels.weight_size(s);
  const int64_t chunks = std::min<int64_t>(4, s.tiles()), parts = std::min<int64_t>(2, chunks);
  Floats sums = poisoned(parts * size);
  for (int64_t i = 0; i < chunks; ++i) {
    const int64_t begin = s.tiles() * i / chunks;
    const TileChunk chunk = {begin, s.tiles() * (i + 1) / chunks - begin};
    for (int row = 0; row < s.out_tile + s.kernel - 1; ++row) {
      Floats pair = poisoned(kernels.pair_size(s, chunk.size));
      last_first(chunk.size, [&](TaskRange tasks) {
        kernels.transform_pair(s, x.data(), dy.data(), row, chunk,
                               {begin + tasks.first, begin + tasks.last}, pair.data());
      });
      last_first(kernels.multiply_tasks(s), [&](TaskRange tasks) {
        kernels.multiply_pair(s, pair.data(), row, chunk.size, i > 1, sums.data() + (i > 0) * size,
                              tasks);
      });
    }
  }
  Floats dw = poisoned(s.outputs * channel_taps);
  const int64_t taps = s.kernel * s.kernel;
  last_first(kernels.weight_tasks(s), [&](TaskRange tasks) {
    kernels.weight_grad(s, sums.data(), parts,
                        {.data = dw.data(),
                         .group_stride = s.group_outputs() * channel_taps,
                         .output_stride = channel_taps,
                         .channel_stride = taps,
                         .rotated = false},
                        tasks);
  });
  return dw;
}

void check_winograd(const char* level, const WinogradKernels& kernels, const ConvSizes& s, int m) {
  const std::string name = std::string(level) + " F(" + std::to_string(m) + ", " +
                           std::to_string(s.kernel_h) + ") of " + std::to_string(s.channels) +
                           " x " + std::to_string(s.height) + " x " + std::to_string(s.width);
  const Floats x = random(s.batch * s.pixels() * s.channels), w = random(s.outputs * s.depth());
  const Floats bias = random(s.outputs), dy = random(s.batch * s.out_pixels() * s.outputs);
  const Expected e = by_definition(s, x, w, bias, dy);
  const int r = static_cast<int>(s.kernel_h);
  const WinogradShape shape = {.batch = s.batch,
                               .height = s.height,
                               .width = s.width,
                               .channels = s.channels,
                               .out_height = s.out_height,
                               .out_width = s.out_width,
                               .outputs = s.outputs,
                               .pad_h = s.pad_h,
                               .pad_w = s.pad_w,
                               .groups = s.groups,
                               .out_tile = m,
                               .kernel = r};
  const int64_t group = s.group_outputs() * s.depth();
  const bool relu = s.batch % 2 == 0;
  compare(name + " output",
          winograd_output(kernels, shape, x,
                          {.data = w.data(),
                           .group_stride = group,
                           .output_stride = s.depth(),
                           .channel_stride = s.taps(),
                           .rotated = false},
                          bias.data(), relu),
          e.output, relu);
  const WinogradShape back = {.batch = s.batch,
                              .height = s.out_height,
                              .width = s.out_width,
                              .channels = s.outputs,
                              .out_height = s.height,
                              .out_width = s.width,
                              .outputs = s.channels,
                              .pad_h = r - 1 - s.pad_h,
                              .pad_w = r - 1 - s.pad_w,
                              .groups = s.groups,
                              .out_tile = m,
                              .kernel = r};
  compare(name + " input gradient",
          winograd_output(kernels, back, dy,
                          {.data = w.data(),
                           .group_stride = group,
                           .output_stride = s.taps(),
                           .channel_stride = s.depth(),
                           .rotated = true},
                          nullptr, false),
          e.input_grad, false);
  compare(name + " weight gradient", winograd_weight_grad(kernels, shape, x, dy, s.depth()),
          e.weight_grad, false);
}

void check_rows(const char* level, const RowConvKernels& kernels, const ConvSizes& s) {
  const std::string name = std::string(level) + " rows of " + std::to_string(s.channels) + " x " +
                           std::to_string(s.height) + " x " + std::to_string(s.width);
  const Floats x = random(s.batch * s.pixels() * s.channels), w = random(s.outputs * s.depth());
  const Floats bias = random(s.outputs), dy = random(s.batch * s.out_pixels() * s.outputs);
  const Expected e = by_definition(s, x, w, bias, dy);
  Floats packed = poisoned(kernels.weight_size(s));
  kernels.pack_weights(s, w.data(), packed.data());
  Floats out = poisoned(dy.size());
  last_first(s.batch * s.out_height, [&](TaskRange tasks) {
    Floats scratch = poisoned(kernels.output_scratch(s));
    kernels.output(s,
                   {.input = x.data(),
                    .packed = packed.data(),
                    .bias = bias.data(),
                    .relu = true,
                    .out = out.data()},
                   scratch.data(), tasks);
  });
  compare(name + " output", out, e.output, true);
  Floats sums(2 * kernels.weight_size(s));
  last_first(kernels.grad_tasks(s), [&](TaskRange tasks) {
    Floats scratch = poisoned(kernels.grad_scratch(s));
    kernels.add_weight_grad(s, x.data(), dy.data(),
                            sums.data() + tasks.first % 2 * kernels.weight_size(s), scratch.data(),
                            tasks);
  });
  Floats dw = poisoned(w.size());
  kernels.unpack_weights(s, sums.data(), 2, dw.data());
  compare(name + " weight gradient", dw, e.weight_grad, false);
}

ConvSizes sizes(int64_t batch, int64_t channels, int64_t height, int64_t width, int64_t outputs,
                int64_t kernel_h, int64_t kernel_w, int64_t stride, int64_t pad, int64_t groups,
                int64_t dilation_h = 1) {
  const int64_t out_h = (height + 2 * pad - dilation_h * (kernel_h - 1) - 1) / stride + 1;
  const int64_t out_w = (width + 2 * pad - kernel_w) / stride + 1;
  return {.batch = batch,
          .channels = channels,
          .height = height,
          .width = width,
          .outputs = outputs,
          .out_height = out_h,
          .out_width = out_w,
          .kernel_h = kernel_h,
          .kernel_w = kernel_w,
          .stride_h = stride,
          .stride_w = stride,
          .pad_h = pad,
          .pad_w = pad,
          .dilation_h = dilation_h,
          .dilation_w = 1,
          .groups = groups};
}

void check_level(const char* level, const WinogradKernels* (*winograd)(int, int),
                 const RowConvKernels& rows) {
  for (const auto& [m, r] : {std::pair(2, 3), std::pair(4, 3), std::pair(2, 5)}) {
    const WinogradKernels& kernels = *winograd(m, r);
    for (const ConvSizes& s : {
             sizes(1, 1, 5, 5, 1, r, r, 1, 0, 1),
             sizes(2, 3, 7, 6, 5, r, r, 1, 1, 1),
             sizes(3, 6, 5, 9, 6, r, r, 1, 2, 6),      // depthwise
             sizes(2, 34, 9, 8, 66, r, r, 1, 2, 2),    // 17 and 33 of a group
             sizes(1, 48, 6, 5, 48, r, r, 1, 1, 1),    // one panel of three vectors
             sizes(2, 20, 8, 11, 112, r, r, 1, 3, 1),  // more padding than the kernel reaches
             sizes(5, 65, 13, 13, 40, r, r, 1, 1, 1),  // several blocks of tiles
         }) {
      check_winograd(level, kernels, s, m);
    }
  }
  // Products of more rows than one pass of multiply_pair takes.
  check_winograd(level, *winograd(2, 3), sizes(8, 10, 23, 23, 12, 3, 3, 1, 1, 1), 2);
  check_rows(level, rows, sizes(1, 1, 1, 1, 1, 1, 1, 1, 0, 1));
  check_rows(level, rows, sizes(2, 3, 23, 27, 9, 11, 11, 4, 0, 1));
  check_rows(level, rows, sizes(2, 3, 41, 30, 96, 7, 5, 2, 0, 1));
  check_rows(level, rows, sizes(1, 4, 12, 19, 50, 3, 3, 1, 0, 1, 2));
}

}  // namespace

int main() {
  check_level("avx2", winograd_avx2, row_conv_avx2());
  if (__builtin_cpu_supports("avx512f")) {
    check_level("avx512", winograd_avx512, row_conv_avx512());
  }
  return failed;
}
