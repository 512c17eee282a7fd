// Inner products of few items: each weight is read once, in long runs, and its time is that of the
// memory.  Include after common/simd.h.
#pragma once

#include <algorithm>
#include <cstdint>

#include "common/register_tile_simd.h"
#include "common/vectors_simd.h"
#include "conv/epilogue_simd.h"
#include "inference/inference.h"

namespace caffe_compat::CAFFE_COMPAT_SIMD {
namespace inference {

constexpr int kMostItems = 4;       // at a time
constexpr int kProductOutputs = 8;  // of a task

template <int items, int outputs>
void product_tile(const Product& p, int64_t item, int64_t output) {
  Floats sums[outputs][items];
#pragma GCC unroll 8
  for (int o = 0; o < outputs; ++o) {
#pragma GCC unroll 8
    for (int i = 0; i < items; ++i) sums[o][i] = Floats::zero();
  }
  const float* x = p.x + item * p.inputs;
  const float* weight = p.weight + output * p.inputs;
  const auto step = [&](int64_t k, int count, auto whole) __attribute__((always_inline)) {
    Floats numbers[items];
#pragma GCC unroll 8
    for (int i = 0; i < items; ++i) numbers[i] = load_some<whole>(x + i * p.inputs + k, count);
#pragma GCC unroll 8
    for (int o = 0; o < outputs; ++o) {
      const float* from = weight + o * p.inputs + k;
      _mm_prefetch(from + 512, _MM_HINT_T0);
      const Floats row = load_some<whole>(from, count);
#pragma GCC unroll 8
      for (int i = 0; i < items; ++i) sums[o][i] = multiply_add(row, numbers[i], sums[o][i]);
    }
  };
  for_each_vector(p.inputs, step);
  for (int i = 0; i < items; ++i) {
    float numbers[kProductOutputs];
    for (int o = 0; o < outputs; ++o) numbers[o] = sums[o][i].sum();
    for (int o = 0; o < outputs; o += kLanes) {
      const int count = std::min(outputs - o, kLanes);
      const Finish<false> finish(p.epilogue, output + o, count);
      finish(Floats::load(numbers + o, count), item + i)
          .store(p.out + (item + i) * p.out_stride + output + o, count);
    }
  }
}

template <int outputs>
void product_items(const Product& p, int64_t output) {
  for (int64_t item = 0; item < p.batch;) {
    switch (std::min<int64_t>(p.batch - item, kMostItems)) {
      case 1:
        product_tile<1, outputs>(p, item, output);
        item += 1;
        break;
      case 2:
        product_tile<2, outputs>(p, item, output);
        item += 2;
        break;
      case 3:
        product_tile<3, outputs>(p, item, output);
        item += 3;
        break;
      default:
        product_tile<4, outputs>(p, item, output);
        item += 4;
    }
  }
}

inline int64_t product_tasks(const Product& p) {
  return (p.outputs + kProductOutputs - 1) / kProductOutputs;
}

inline void product(const Product& p, TaskRange tasks) {
  constexpr int kSome =
      kMostItems * kProductOutputs > kTileRows * 2 ? kProductOutputs / 2 : kProductOutputs;
  for (int64_t task = tasks.first; task < tasks.last; ++task) {
    int64_t output = task * kProductOutputs;
    const int64_t end = std::min(output + kProductOutputs, p.outputs);
    if (p.batch == 1 && end - output == kProductOutputs) {
      product_tile<1, kProductOutputs>(p, 0, output);
      continue;
    }
    for (; output + kSome <= end; output += kSome) product_items<kSome>(p, output);
    for (; output < end; ++output) product_items<1>(p, output);
  }
}

}  // namespace inference
}  // namespace caffe_compat::CAFFE_COMPAT_SIMD
