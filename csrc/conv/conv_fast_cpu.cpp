// torch.ops.caffe_compat.conv_fast and its gradients: float32 convolution on the CPU with channels
// last, by Winograd's minimal filtering or as products of kernel rows where that beats oneDNN, by
// oneDNN elsewhere.  Fake kernels are in caffe_compat/ops/conv_fast.py.

#include <ATen/Parallel.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/convolution.h>
#include <ATen/ops/convolution_backward.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "common/simd_level.h"
#include "conv/conv_arguments.h"
#include "conv/row_conv.h"
#include "conv/winograd.h"

namespace caffe_compat {
namespace {

constexpr auto kLast = at::MemoryFormat::ChannelsLast;

// With fewer channels in a group, Winograd's transforms of 5x5 kernels cost more than they save.
constexpr int64_t kFewestChannels5 = 16;
// The kernels of row_conv.h are for images as nets read them: with more channels oneDNN fills its
// vectors.
constexpr int64_t kMostRowChannels = 4;

void check_cpu_float(const char* op, const at::Tensor& tensor, const char* name) {
  CAFFE_COMPAT_CHECK_TYPE(tensor.scalar_type() == at::kFloat, op, ": ", name, " is ",
                          describe(tensor), "; expected float32 (use conv for other types)");
}

const RowConvKernels* row_conv_kernels() {
#if CAFFE_COMPAT_HAS_SIMD
  switch (simd_level()) {
    case SimdLevel::kAvx512:
      return &row_conv_avx512();
    case SimdLevel::kAvx2:
      return &row_conv_avx2();
    case SimdLevel::kNone:
      break;
  }
#endif
  return nullptr;
}

// Winograd for these sizes: its kernels are null where it does not apply.
struct WinogradPlan {
  const WinogradKernels* kernels = nullptr;
  WinogradShape shape;
};

WinogradPlan plan_winograd(const ConvSizes& s, int64_t largest_tile) {
  WinogradPlan best;
  const int64_t fewest_channels = s.kernel_h == 5 ? kFewestChannels5 : kFewestWinogradChannels;
  const bool fits = s.kernel_h == s.kernel_w && s.stride_h == 1 && s.stride_w == 1 &&
                    s.dilation_h == 1 && s.dilation_w == 1 && s.batch > 0 &&
                    s.group_channels() >= fewest_channels && s.group_outputs() >= fewest_channels;
  if (!fits) return best;
  int64_t fewest = s.out_pixels() * s.taps();  // products by the definition
  for (const int out_tile : {2, 4}) {
    if (out_tile + s.kernel_h - 1 > largest_tile) continue;
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
                                 .out_tile = out_tile,
                                 .kernel = static_cast<int>(s.kernel_h),
                                 .threads = at::get_num_threads()};
    const WinogradKernels* kernels = winograd_kernels(shape);
    if (!kernels) continue;
    const int64_t products = shape.tiles_h() * shape.tiles_w() * shape.positions();
    if (products >= fewest) continue;
    fewest = products;
    best = {kernels, shape};
  }
  return best;
}

// The sizes of the convolution of the output's gradient that gives the input's gradient.
ConvSizes transposed(const ConvSizes& s) {
  ConvSizes t = s;
  std::swap(t.channels, t.outputs);
  std::swap(t.height, t.out_height);
  std::swap(t.width, t.out_width);
  t.pad_h = s.kernel_h - 1 - s.pad_h;
  t.pad_w = s.kernel_w - 1 - s.pad_w;
  return t;
}

at::Tensor buffer(int64_t numbers) { return at::empty({numbers}, at::kFloat); }

// Runs task(first, last) over `count` tasks of nearly equal work.
template <typename Task>
void share(int64_t count, const Task& task) {
  at::parallel_for(0, count, 1, task);
}

// x and the result are dense with channels last.
at::Tensor winograd_output(const WinogradPlan& plan, const at::Tensor& x,
                           const WinogradWeights<const float>& weights, const float* bias,
                           bool relu) {
  const auto& [kernels, s] = plan;
  const at::Tensor transformed = buffer(kernels->weight_size(s));
  float* u = transformed.mutable_data_ptr<float>();
  share(kernels->weight_tasks(s), [&](int64_t first, int64_t last) {
    kernels->transform_weights(s, weights, u, {first, last});
  });
  const at::Tensor y =
      at::empty({s.batch, s.outputs, s.out_height, s.out_width}, x.options(), kLast);
  const WinogradOutput arrays = {
      .input = x.const_data_ptr<float>(),
      .transformed = u,
      .epilogue = {.bias = bias, .floor = relu ? 0 : -std::numeric_limits<float>::infinity()},
      .out = y.mutable_data_ptr<float>(),
      .input_stride = s.channels,
      .out_stride = s.outputs,
  };
  share(kernels->output_tasks(s), [&](int64_t first, int64_t last) {
    const at::Tensor scratch = buffer(kernels->output_scratch(s));
    kernels->output(s, arrays, scratch.mutable_data_ptr<float>(), {first, last});
  });
  return y;
}

// One array of sums over all tiles, for weights so large that one for each thread would not fit
// into the caches.  Each thread takes some rows of the transformed tiles, from beginning to end,
// where that keeps all of them busy; else the threads go through the rows together and share out
// each.
void sum_together(const WinogradPlan& plan, const float* input, const float* grad, float* sums) {
  constexpr int64_t kCacheNumbers = 1 << 20;  // 4 MiB of the L3 cache
  const auto& [kernels, s] = plan;
  const int64_t most = std::max<int64_t>(64, kCacheNumbers / kernels->pair_size(s, 1));
  const int64_t chunks = (s.tiles() + most - 1) / most;
  const int64_t size = (s.tiles() + chunks - 1) / chunks, rows = s.out_tile + s.kernel - 1;
  const auto sum_rows = [&](int64_t first_row, int64_t last_row) {
    const at::Tensor scratch = buffer(kernels->pair_size(s, size));
    float* pair = scratch.mutable_data_ptr<float>();
    for (int row = static_cast<int>(first_row); row < last_row; ++row) {
      for (int64_t begin = 0; begin < s.tiles(); begin += size) {
        const TileChunk chunk = {begin, std::min(size, s.tiles() - begin)};
        share(chunk.size, [&](int64_t first, int64_t last) {
          kernels->transform_pair(s, input, grad, row, chunk, {begin + first, begin + last}, pair);
        });
        share(kernels->multiply_tasks(s), [&](int64_t first, int64_t last) {
          kernels->multiply_pair(s, pair, row, chunk.size, begin > 0, sums, {first, last});
        });
      }
    }
  };
  if (rows % at::get_num_threads() == 0) {
    share(rows, sum_rows);  // share() inside it runs on the calling thread alone
  } else {
    sum_rows(0, rows);
  }
}

// An array of sums for each of `parts` ranges of tiles: no thread waits for another.
void sum_apart(const WinogradPlan& plan, const float* input, const float* grad, int64_t parts,
               float* sums) {
  constexpr int64_t kCacheNumbers = 128 << 10;  // half of an L2 cache of 1 MiB
  const auto& [kernels, s] = plan;
  const int64_t size = std::max<int64_t>(16, kCacheNumbers / kernels->pair_size(s, 1));
  share(parts, [&](int64_t first_part, int64_t last_part) {
    const at::Tensor scratch = buffer(kernels->pair_size(s, size));
    float* pair = scratch.mutable_data_ptr<float>();
    for (int64_t part = first_part; part < last_part; ++part) {
      const int64_t first = s.tiles() * part / parts, last = s.tiles() * (part + 1) / parts;
      float* sum = sums + part * kernels->weight_size(s);
      for (int64_t begin = first; begin < last; begin += size) {
        const TileChunk chunk = {begin, std::min(size, last - begin)};
        for (int row = 0; row < s.out_tile + s.kernel - 1; ++row) {
          kernels->transform_pair(s, input, grad, row, chunk, {begin, begin + chunk.size}, pair);
          kernels->multiply_pair(s, pair, row, chunk.size, begin > first, sum,
                                 {0, kernels->multiply_tasks(s)});
        }
      }
    }
  });
}

at::Tensor winograd_weight_grad(const WinogradPlan& plan, const at::Tensor& dy,
                                const at::Tensor& x) {
  // Decided by the sizes alone, so that the result does not depend on the number of threads.
  constexpr int64_t kMostParts = 8, kMostApart = 1 << 20;
  const auto& [kernels, s] = plan;
  const int64_t size = kernels->weight_size(s);
  const int64_t parts = size <= kMostApart ? std::min(kMostParts, s.tiles()) : 1;
  const at::Tensor sums = buffer(parts * size);
  float* sum = sums.mutable_data_ptr<float>();
  if (size <= kMostApart) {
    sum_apart(plan, x.const_data_ptr<float>(), dy.const_data_ptr<float>(), parts, sum);
  } else {
    sum_together(plan, x.const_data_ptr<float>(), dy.const_data_ptr<float>(), sum);
  }
  const int64_t taps = s.kernel * s.kernel, channels = s.group_channels();
  const at::Tensor dw = at::empty({s.outputs, channels, s.kernel, s.kernel}, x.options());
  const WinogradWeights<float> weights = {.data = dw.mutable_data_ptr<float>(),
                                          .group_stride = s.group_outputs() * channels * taps,
                                          .output_stride = channels * taps,
                                          .channel_stride = taps,
                                          .rotated = false};
  share(kernels->weight_tasks(s), [&](int64_t first, int64_t last) {
    kernels->weight_grad(s, sum, parts, weights, {first, last});
  });
  return dw;
}

// Null where the kernels of row_conv.h do not apply.
const RowConvKernels* plan_rows(const ConvSizes& s) {
  const bool fits = s.groups == 1 && s.dilation_w == 1 && s.channels <= kMostRowChannels &&
                    s.outputs >= kFewestWinogradChannels && s.batch > 0;
  return fits ? row_conv_kernels() : nullptr;
}

// x with its padding written out as zeros; `s` becomes the sizes of the convolution, now without
// padding, of the larger image.
at::Tensor pad_image(const at::Tensor& x, ConvSizes* s) {
  if (s->pad_h == 0 && s->pad_w == 0) return x;
  const at::Tensor padded =
      at::constant_pad_nd(x, {s->pad_w, s->pad_w, s->pad_h, s->pad_h}, 0).contiguous(kLast);
  s->height += 2 * s->pad_h;
  s->width += 2 * s->pad_w;
  s->pad_h = s->pad_w = 0;
  return padded;
}

at::Tensor row_conv_output(const RowConvKernels& kernels, ConvSizes s, const at::Tensor& input,
                           const at::Tensor& weight, const float* bias, bool relu) {
  const at::Tensor x = pad_image(input, &s);
  const at::Tensor packed = buffer(kernels.weight_size(s));
  float* w = packed.mutable_data_ptr<float>();
  kernels.pack_weights(s, weight.const_data_ptr<float>(), w);
  const at::Tensor y =
      at::empty({s.batch, s.outputs, s.out_height, s.out_width}, x.options(), kLast);
  const RowConvOutput arrays = {
      .input = x.const_data_ptr<float>(),
      .packed = w,
      .bias = bias,
      .relu = relu,
      .out = y.mutable_data_ptr<float>(),
  };
  share(s.batch * s.out_height, [&](int64_t first, int64_t last) {
    const at::Tensor scratch = buffer(kernels.output_scratch(s));
    kernels.output(s, arrays, scratch.mutable_data_ptr<float>(), {first, last});
  });
  return y;
}

at::Tensor row_conv_weight_grad(const RowConvKernels& kernels, ConvSizes s, const at::Tensor& dy,
                                const at::Tensor& input) {
  // The number of partial sums does not depend on the threads, so that the result is always the
  // same.
  constexpr int64_t kMostSums = 16;
  const at::Tensor x = pad_image(input, &s);
  const int64_t tasks = kernels.grad_tasks(s), parts = std::min(kMostSums, tasks);
  const at::Tensor sums = at::zeros({parts, kernels.weight_size(s)}, at::kFloat);
  const float* from = x.const_data_ptr<float>();
  const float* grad = dy.const_data_ptr<float>();
  float* sum = sums.mutable_data_ptr<float>();
  share(parts, [&](int64_t first, int64_t last) {
    const at::Tensor scratch = buffer(kernels.grad_scratch(s));
    for (int64_t i = first; i < last; ++i) {
      kernels.add_weight_grad(s, from, grad, sum + i * kernels.weight_size(s),
                              scratch.mutable_data_ptr<float>(),
                              {tasks * i / parts, tasks * (i + 1) / parts});
    }
  });
  const at::Tensor dw =
      at::empty({s.outputs, s.group_channels(), s.kernel_h, s.kernel_w}, x.options());
  kernels.unpack_weights(s, sum, parts, dw.mutable_data_ptr<float>());
  return dw;
}

// One of PyTorch's own gradients: `which` is 0 for the input's, 1 for the weight's.
at::Tensor aten_grad(const at::Tensor& grad, const at::Tensor& input, const at::Tensor& weight,
                     const ConvWindow& w, int which) {
  auto grads =
      at::convolution_backward(grad, input, weight, std::nullopt, w.stride, w.padding, w.dilation,
                               false, {0, 0}, w.groups, {which == 0, which == 1, false});
  return which == 0 ? std::get<0>(grads) : std::get<1>(grads);
}

at::Tensor conv_fast(const at::Tensor& input, const at::Tensor& weight,
                     const std::optional<at::Tensor>& bias, at::IntArrayRef stride,
                     at::IntArrayRef padding, at::IntArrayRef dilation, int64_t groups, bool relu,
                     int64_t largest_tile) {
  const char* op = "conv_fast";
  const ConvWindow window = conv_window(op, stride, padding, dilation, groups);
  const ConvSizes s = conv_sizes(op, input.sizes(), weight.sizes(), window);
  check_same_type(op, "weight", weight, "input", input);
  check_cpu_float(op, input, "input");
  check_conv_bias(op, bias, input, s);
  const at::AutoDispatchBelowAutograd no_autograd;
  const at::Tensor x = input.contiguous(kLast), w = weight.contiguous();
  const at::Tensor b = bias ? bias->contiguous() : at::Tensor();
  const float* offsets = bias ? b.const_data_ptr<float>() : nullptr;
  if (const WinogradPlan plan = plan_winograd(s, largest_tile); plan.kernels) {
    const int64_t depth = s.depth();
    return winograd_output(plan, x,
                           {.data = w.const_data_ptr<float>(),
                            .group_stride = s.group_outputs() * depth,
                            .output_stride = depth,
                            .channel_stride = s.taps(),
                            .rotated = false},
                           offsets, relu);
  }
  if (const RowConvKernels* kernels = plan_rows(s)) {
    return row_conv_output(*kernels, s, x, w, offsets, relu);
  }
  at::Tensor y = at::convolution(x, w, bias, stride, padding, dilation, false, {0, 0}, groups);
  if (relu) y.relu_();
  return y.contiguous(kLast);
}

at::Tensor conv_fast_input_grad(const at::Tensor& grad, const at::Tensor& weight, int64_t height,
                                int64_t width, at::IntArrayRef stride, at::IntArrayRef padding,
                                at::IntArrayRef dilation, int64_t groups, int64_t largest_tile) {
  const ConvWindow window = conv_window("conv_input_grad", stride, padding, dilation, groups);
  const ConvSizes s = conv_input_grad_sizes(grad, weight, height, width, window);
  check_cpu_float("conv_fast_input_grad", grad, "grad");
  const at::AutoDispatchBelowAutograd no_autograd;
  const at::Tensor dy = grad.contiguous(kLast), w = weight.contiguous();
  if (const WinogradPlan plan = plan_winograd(transposed(s), largest_tile); plan.kernels) {
    const int64_t depth = s.depth();
    return winograd_output(plan, dy,
                           {.data = w.const_data_ptr<float>(),
                            .group_stride = s.group_outputs() * depth,
                            .output_stride = s.taps(),
                            .channel_stride = depth,
                            .rotated = true},
                           nullptr, false);
  }
  // PyTorch reads no value of it, only its sizes.
  const at::Tensor x = at::empty({s.batch, s.channels, height, width}, dy.options(), kLast);
  return aten_grad(dy, x, w, window, 0).contiguous(kLast);
}

at::Tensor conv_fast_weight_grad(const at::Tensor& grad, const at::Tensor& input, int64_t kernel_h,
                                 int64_t kernel_w, at::IntArrayRef stride, at::IntArrayRef padding,
                                 at::IntArrayRef dilation, int64_t groups, int64_t largest_tile) {
  const ConvWindow window = conv_window("conv_weight_grad", stride, padding, dilation, groups);
  const ConvSizes s = conv_weight_grad_sizes(grad, input, kernel_h, kernel_w, window);
  check_cpu_float("conv_fast_weight_grad", grad, "grad");
  const at::AutoDispatchBelowAutograd no_autograd;
  const at::Tensor dy = grad.contiguous(kLast), x = input.contiguous(kLast);
  if (const WinogradPlan plan = plan_winograd(s, largest_tile); plan.kernels) {
    return winograd_weight_grad(plan, dy, x);
  }
  if (const RowConvKernels* kernels = plan_rows(s)) {
    return row_conv_weight_grad(*kernels, s, dy, x);
  }
  const at::Tensor w = at::empty({s.outputs, s.group_channels(), kernel_h, kernel_w}, x.options());
  return aten_grad(dy, x, w, window, 1).contiguous();
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(caffe_compat, m) {
  m.def(
      "conv_fast(Tensor input, Tensor weight, Tensor? bias, int[2] stride, int[2] padding, int[2] "
      "dilation, int groups, bool relu, int largest_tile) -> Tensor");
  m.def(
      "conv_fast_input_grad(Tensor grad, Tensor weight, SymInt height, SymInt width, int[2] "
      "stride, int[2] padding, int[2] dilation, int groups, int largest_tile) -> Tensor");
  m.def(
      "conv_fast_weight_grad(Tensor grad, Tensor input, SymInt kernel_h, SymInt kernel_w, int[2] "
      "stride, int[2] padding, int[2] dilation, int groups, int largest_tile) -> Tensor");
}

TORCH_LIBRARY_IMPL(caffe_compat, CPU, m) {
  m.impl("conv_fast", conv_fast);
  m.impl("conv_fast_input_grad", conv_fast_input_grad);
  m.impl("conv_fast_weight_grad", conv_fast_weight_grad);
}

}  // namespace caffe_compat
