// A depthwise convolution and the 1x1 convolution behind it.  Include after common/simd.h.
//
// A task is some rows of the output.  What the depthwise convolution makes of them stays in the
// core's caches, as the rows of the product's first matrix: it is never written to a blob.
#pragma once

#include <algorithm>
#include <cstdint>

#include "inference/depthwise_simd.h"
#include "inference/direct_simd.h"
#include "inference/inference.h"

namespace caffe_compat::CAFFE_COMPAT_SIMD {
namespace inference {

// Tasks of an image, whose rows they share as evenly as can be: about `kPixels` pixels each; of few
// tasks so many that all threads have as much to do.
inline int64_t separable_blocks(const SeparableConv& p, int threads) {
  constexpr int64_t kPixels = 64, kFewestPixels = 24;
  const Image& out = p.point.out;
  const int64_t rows = std::max<int64_t>(kPixels / out.width, kDepthwiseRows);
  const int64_t blocks = (out.height + rows - 1) / rows;
  const int64_t even = (blocks + threads - 1) / threads * threads;
  const bool fits = even <= out.height && out.height * out.width >= even * kFewestPixels;
  return out.batch * blocks < 8 * threads && fits ? even : blocks;
}

inline int64_t separable_tasks(const SeparableConv& p, int threads) {
  return p.point.out.batch * separable_blocks(p, threads);
}

inline int64_t separable_scratch(const SeparableConv& p, int threads) {
  const int64_t blocks = separable_blocks(p, threads);
  return (p.point.out.height + blocks - 1) / blocks * p.point.out.width * p.point.in.channels;
}

inline void separable(const SeparableConv& p, int threads, float* scratch, TaskRange tasks) {
  const Image& out = p.point.out;
  const int64_t blocks = separable_blocks(p, threads), depth = p.point.in.channels;
  const ColumnPanels panels(out.channels);
  DirectPlan plan{};
  plan.parts_h = plan.parts_w = 1;
  plan.depth = depth;
  for (int64_t task = tasks.first; task < tasks.last; ++task) {
    const int64_t n = task / blocks, block = task % blocks;
    const int64_t row = out.height * block / blocks, end = out.height * (block + 1) / blocks;
    DepthwiseConv depthwise = p.depthwise;
    depthwise.out.data = scratch;
    depthwise.out.stride = depth;
    depthwise.first_pixel = (n * out.height + row) * out.width;
    depthwise_rows(depthwise, n, row, end);
    if (has_few_weights(p.point)) {
      const int64_t pixel = depthwise.first_pixel;
      direct_all_panels(p.point, plan, scratch, depth, pixel, pixel + (end - row) * out.width);
      continue;
    }
    TileArguments t{};
    t.a = scratch;
    t.a_row = depth;
    t.pixel = depthwise.first_pixel;
    for (int64_t panel = 0; panel < panels.count(); ++panel) {
      const int vectors = panels.width(panel);
      t.output = panels.first_column(panel);
      t.columns = std::min<int64_t>(vectors * kLanes, out.channels - t.output);
      t.b = p.point.packed + t.output * depth;
      // The weights of the next panel, which may lie behind the L2 cache.
      t.next = panel + 1 < panels.count() ? t.b + depth * vectors * kLanes : nullptr;
      direct_panel(p.point, plan, t, (end - row) * out.width, vectors);
    }
  }
}

}  // namespace inference
}  // namespace caffe_compat::CAFFE_COMPAT_SIMD
