// A depthwise convolution and the 1x1 convolution behind it.  Include after common/simd.h.
//
// A task is some rows of the output.  What the depthwise convolution makes of them stays in the
// core's caches, as the rows of the product's first matrix: it is never written to a blob.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <limits>

#include "inference/depthwise_simd.h"
#include "inference/direct_simd.h"
#include "inference/inference.h"

namespace caffe_compat::CAFFE_COMPAT_SIMD {
namespace inference {

// Rows of a task, of one image: about `kPixels` pixels, and so many that threads which take whole
// tasks have equal work.
inline int64_t separable_rows(const SeparableConv& p, int threads) {
  constexpr int64_t kPixels = 64, kFewestPixels = 24;
  const Image& out = p.point.out;
  int64_t best = out.height, least = std::numeric_limits<int64_t>::max();
  const auto distance = [&](int64_t rows) { return std::abs(rows * out.width - kPixels); };
  for (int64_t rows = 1; rows <= out.height; ++rows) {
    if (rows * out.width < kFewestPixels && rows < out.height) continue;
    const int64_t tasks = out.batch * ((out.height + rows - 1) / rows);
    // A thread's work; an odd row leaves half of the depthwise convolution's tiles empty.
    const int64_t most = (tasks + threads - 1) / threads * (8 * rows + rows % kDepthwiseRows);
    if (most < least || (most == least && distance(rows) < distance(best))) {
      best = rows;
      least = most;
    }
  }
  return best;
}

inline int64_t separable_tasks(const SeparableConv& p, int threads) {
  const int64_t rows = separable_rows(p, threads);
  return p.point.out.batch * ((p.point.out.height + rows - 1) / rows);
}

inline int64_t separable_scratch(const SeparableConv& p, int threads) {
  return separable_rows(p, threads) * p.point.out.width * p.point.in.channels;
}

inline void separable(const SeparableConv& p, int threads, float* scratch, TaskRange tasks) {
  const Image& out = p.point.out;
  const int64_t rows = separable_rows(p, threads), depth = p.point.in.channels;
  const int64_t blocks = (out.height + rows - 1) / rows;
  const ColumnPanels panels(out.channels);
  DirectPlan plan{};
  plan.parts_h = plan.parts_w = 1;
  plan.depth = depth;
  for (int64_t task = tasks.first; task < tasks.last; ++task) {
    const int64_t n = task / blocks, row = task % blocks * rows;
    const int64_t end = std::min(row + rows, out.height);
    DepthwiseConv depthwise = p.depthwise;
    depthwise.out.data = scratch;
    depthwise.out.stride = depth;
    depthwise.first_pixel = (n * out.height + row) * out.width;
    depthwise_rows(depthwise, n, row, end);
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
