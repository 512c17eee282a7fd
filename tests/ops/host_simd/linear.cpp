// The kernels of csrc/linear alone, under sanitizers: buffers of exact size, outputs poisoned,
// tiles in several ranges; exits with 1 where a result is wrong.

#include "linear/linear.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <memory>
#include <random>

#include "common/simd_level.h"

using caffe_compat::LinearKernels;
using caffe_compat::LinearSizes;
using caffe_compat::TaskRange;

namespace {

// A heap block for each array: a vector would round its size up.  Aligned as the streamed stores
// need.
struct Array {
  int64_t size;
  std::unique_ptr<float, decltype(&std::free)> memory;

  explicit Array(int64_t count) : size(count), memory(nullptr, &std::free) {
    void* block = nullptr;
    if (posix_memalign(&block, 64, std::max<int64_t>(count, 1) * sizeof(float))) std::abort();
    memory.reset(static_cast<float*>(block));
    std::fill_n(data(), count, std::numeric_limits<float>::quiet_NaN());
  }
  float* data() const { return memory.get(); }
};

Array draw(int64_t count) {
  static std::mt19937 generator(1);
  Array array(count);
  std::normal_distribution<float> normal;
  for (int64_t i = 0; i < count; ++i) array.data()[i] = normal(generator);
  return array;
}

int failures = 0;

// sum over `depth` of a[i * a_step] * b[i * b_step], plus `bias`, against `actual`.
void check(const char* what, const LinearSizes& s, float actual, const float* a, int64_t a_step,
           const float* b, int64_t b_step, int64_t depth, double bias, bool relu) {
  double expected = bias;
  for (int64_t i = 0; i < depth; ++i) expected += double(a[i * a_step]) * b[i * b_step];
  if (relu) expected = std::max(expected, 0.0);
  if (std::abs(actual - expected) <= 1e-5 * std::sqrt(depth + 1.0)) return;
  ++failures;
  std::printf("%s, batch %d inputs %d outputs %d: %g, expected %g\n", what, int(s.batch),
              int(s.inputs), int(s.outputs), actual, expected);
}

template <typename Run>
void in_ranges(int64_t count, const Run& run) {
  const int64_t cut = count / 3;
  if (cut > 0) run(TaskRange{0, cut});
  if (cut < count) run(TaskRange{cut, count});
}

void run_case(const LinearKernels& k, const LinearSizes& s, bool relu) {
  const auto tiles = [](int64_t size, int64_t tile) { return (size + tile - 1) / tile; };
  const int64_t row_tiles = tiles(s.outputs, k.tile_rows);
  const int64_t panels = tiles(s.inputs, k.tile_columns);
  const Array x = draw(s.batch * s.inputs), w = draw(s.outputs * s.inputs);
  const Array b = draw(s.outputs), dy = draw(s.batch * s.outputs);
  const Array y(s.batch * s.outputs), dx(x.size), dw(w.size);

  const Array x_rows(s.inputs * k.packed_batch(s.batch));
  const Array sums(row_tiles * k.tile_rows * k.packed_batch(s.batch));
  in_ranges(s.inputs, [&](TaskRange range) {
    k.pack_rows(x.data(), s.batch, s.inputs, x_rows.data(), range);
  });
  in_ranges(row_tiles, [&](TaskRange range) {
    k.forward({.x_rows = x_rows.data(),
               .weight = w.data(),
               .bias = relu ? b.data() : nullptr,
               .relu = relu,
               .output = y.data()},
              s, sums.data(), range);
  });

  const Array scratch(panels * s.batch * k.tile_columns), x_columns(scratch.size);
  const bool stream = s.inputs % k.tile_columns == 0;
  in_ranges(panels, [&](TaskRange range) {
    k.input_grad(dy.data(), w.data(), dx.data(), s, scratch.data(), range);
    k.pack_columns(x.data(), s.batch, s.inputs, x_columns.data(), range);
    k.weight_grad(dy.data(), x_columns.data(), dw.data(), stream, s, range);
  });

  for (int64_t m = 0; m < s.batch; ++m) {
    for (int64_t n = 0; n < s.outputs; ++n) {
      check("forward", s, y.data()[m * s.outputs + n], x.data() + m * s.inputs, 1,
            w.data() + n * s.inputs, 1, s.inputs, relu ? b.data()[n] : 0, relu);
    }
    for (int64_t i = 0; i < s.inputs; ++i) {
      check("input gradient", s, dx.data()[m * s.inputs + i], dy.data() + m * s.outputs, 1,
            w.data() + i, s.inputs, s.outputs, 0, false);
    }
  }
  for (int64_t n = 0; n < s.outputs; ++n) {
    for (int64_t i = 0; i < s.inputs; ++i) {
      check("weight gradient", s, dw.data()[n * s.inputs + i], dy.data() + n, s.outputs,
            x.data() + i, s.inputs, s.batch, 0, false);
    }
  }
}

}  // namespace

int main() {
  using caffe_compat::SimdLevel;
  const SimdLevel level = caffe_compat::simd_level();
  std::mt19937 generator(2);
  const auto size = [&](int most) {
    return std::uniform_int_distribution<int64_t>(1, most)(generator);
  };
  for (int i = 0; i < 60; ++i) {
    LinearSizes s{size(70), size(150), size(60)};
    if (i % 5 == 0) s.inputs = s.inputs * 16 + size(15);   // several blocks
    if (i % 5 == 1) s.inputs = (s.inputs + 31) / 32 * 32;  // streamed
    if (level != SimdLevel::kNone) run_case(caffe_compat::kLinearAvx2, s, i % 2);
    if (level == SimdLevel::kAvx512) run_case(caffe_compat::kLinearAvx512, s, i % 2);
  }
  std::printf("level %d, %d wrong\n", int(level), failures);
  return failures ? 1 : 0;
}
