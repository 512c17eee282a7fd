// The convolutions of program.h: the ways to compute one, and the choice between them.

#include <ATen/ops/empty.h>

#include <algorithm>

#include "common/tensor_checks.h"
#include "conv/winograd.h"
#include "inference/program.h"
#include "inference/team.h"

namespace caffe_compat {
namespace {

// The output's size along one axis, rounded down; a layer that rounds up has larger ones.
int64_t fitting(int64_t size, int64_t kernel, int64_t stride, int64_t pad, int64_t dilation) {
  return (size + 2 * pad - dilation * (kernel - 1) - 1) / stride + 1;
}

// Wide images are runs of pixels that are long enough as they lie.
bool is_worth_trying(const Image& out, int64_t way) {
  constexpr int64_t kWidest = 32;
  return way != kGathered || out.width <= kWidest;
}

void check_sizes(const Image& in, const Image& out, const Window& w, int64_t groups) {
  const bool fits =
      groups > 0 && in.channels % groups == 0 && out.channels % groups == 0 &&
      in.batch == out.batch && w.stride_h > 0 && w.stride_w > 0 && w.dilation_h > 0 &&
      w.dilation_w > 0 && w.pad_h >= 0 && w.pad_w >= 0 && w.taps() > 0 &&
      out.height == fitting(in.height, w.kernel_h, w.stride_h, w.pad_h, w.dilation_h) &&
      out.width == fitting(in.width, w.kernel_w, w.stride_w, w.pad_w, w.dilation_w);
  CAFFE_COMPAT_CHECK_VALUE(fits, "InferenceProgram: sizes of a convolution do not fit each other");
}

void check_weight(const at::Tensor& weight, int64_t outputs, int64_t depth) {
  CAFFE_COMPAT_CHECK_VALUE(
      weight.scalar_type() == at::kFloat && weight.is_cpu() && weight.numel() == outputs * depth,
      "InferenceProgram: weight is ", describe(weight), "; expected float32 for ", outputs,
      " outputs of ", depth, " numbers");
}

}  // namespace

float* Program::scratch(int64_t numbers) {
  const int64_t all = Team::get().size() * numbers;
  if (!scratch_.defined() || scratch_.numel() < all) scratch_ = at::empty({all}, at::kFloat);
  return scratch_.data_ptr<float>();
}

Task Program::pad_into(const Image& in, const Image& padded, const Window& window) {
  return [in, padded, window](const Inputs&) {
    share_out(in.batch * in.height, in.width * in.channels, [&](int64_t first, int64_t last) {
      for (int64_t row = first; row < last; ++row) {
        const int64_t n = row / in.height, y = row % in.height + window.pad_h;
        const float* from = in.data + row * in.width * in.stride;
        float* to =
            padded.data + ((n * padded.height + y) * padded.width + window.pad_w) * padded.stride;
        if (in.is_dense()) {
          std::copy_n(from, in.width * in.channels, to);
          continue;
        }
        for (int64_t x = 0; x < in.width; ++x) {
          std::copy_n(from + x * in.stride, in.channels, to + x * padded.stride);
        }
      }
    });
  };
}

Task Program::direct(Image in, const Image& out, const at::Tensor& weight, Window window,
                     int64_t groups, const Epilogue& end, Memory& memory) {
  Task pad;
  if (window.pad_h || window.pad_w) {
    // The margins stay zero: only the inside is written again.
    Image padded = in;
    padded.height += 2 * window.pad_h;
    padded.width += 2 * window.pad_w;
    padded.stride = in.channels;
    padded.data = memory.take(padded.pixels() * padded.channels);
    pad = pad_into(in, padded, window);
    in = padded;
    window.pad_h = window.pad_w = 0;
  }
  const int64_t channels = in.channels / groups;
  float* packed =
      memory.take(kernels_->packed_size(out.channels, groups, channels * window.taps()));
  kernels_->pack_weights(weight.const_data_ptr<float>(), out.channels, groups, channels,
                         window.taps(), packed);
  const DirectConv conv = {in, out, window, groups, packed, end};
  return [pad, conv, kernels = kernels_](const Inputs& inputs) {
    if (pad) pad(inputs);
    Team& team = Team::get();
    const int threads = team.size();
    team.share(kernels->direct_tasks(conv, threads), 1, [&](int64_t first, int64_t last, int) {
      kernels->direct(conv, threads, {first, last});
    });
  };
}

Task Program::gathered(const Image& in, const Image& out, const at::Tensor& weight,
                       const Window& window, const Epilogue& end, Memory& memory) {
  const int64_t depth = in.channels * window.taps();
  const Image rows = {
      memory.take(out.pixels() * depth), out.batch, out.height, out.width, depth, depth};
  const Task multiply = direct(
      rows, out,
      [&] {
        // (outputs, channels, taps) -> (outputs, taps and channels)
        return weight.view({out.channels, in.channels, -1}).transpose(1, 2).contiguous();
      }(),
      {1, 1, 1, 1, 0, 0, 1, 1}, 1, end, memory);
  return [in, rows, window, multiply](const Inputs& inputs) {
    share_out(
        rows.batch * rows.height, rows.width * rows.channels, [&](int64_t first, int64_t last) {
          for (int64_t row = first; row < last; ++row) {
            const float* image = in.data + row / rows.height * in.height * in.width * in.stride;
            float* to = rows.data + row * rows.width * rows.stride;
            for (int64_t column = 0; column < rows.width; ++column) {
              for (int64_t i = 0; i < window.kernel_h; ++i) {
                const int64_t y =
                    row % rows.height * window.stride_h - window.pad_h + i * window.dilation_h;
                for (int64_t j = 0; j < window.kernel_w; ++j, to += in.channels) {
                  const int64_t x = column * window.stride_w - window.pad_w + j * window.dilation_w;
                  if (y < 0 || y >= in.height || x < 0 || x >= in.width) {
                    std::fill_n(to, in.channels, 0.f);
                  } else {
                    std::copy_n(image + (y * in.width + x) * in.stride, in.channels, to);
                  }
                }
              }
            }
          }
        });
    multiply(inputs);
  };
}

Task Program::winograd(const Image& in, const Image& out, const at::Tensor& weight,
                       const Window& window, int64_t groups, const Epilogue& end, int64_t tile,
                       Memory& memory) {
  const bool fits = window.kernel_h == window.kernel_w && window.stride_h == 1 &&
                    window.stride_w == 1 && window.dilation_h == 1 && window.dilation_w == 1;
  if (!fits) return {};
  const WinogradShape s = {.batch = in.batch,
                           .height = in.height,
                           .width = in.width,
                           .channels = in.channels,
                           .out_height = out.height,
                           .out_width = out.width,
                           .outputs = out.channels,
                           .pad_h = window.pad_h,
                           .pad_w = window.pad_w,
                           .groups = groups,
                           .out_tile = static_cast<int>(tile),
                           .kernel = static_cast<int>(window.kernel_h),
                           .threads = Team::get().size()};
  const WinogradKernels* kernels = winograd_kernels(s);
  if (!kernels) return {};
  const int64_t depth = in.channels / groups * window.taps();
  const WinogradWeights<const float> weights = {.data = weight.const_data_ptr<float>(),
                                                .group_stride = out.channels / groups * depth,
                                                .output_stride = depth,
                                                .channel_stride = window.taps(),
                                                .rotated = false};
  float* transformed = memory.take(kernels->weight_size(s));
  kernels->transform_weights(s, weights, transformed, {0, kernels->weight_tasks(s)});
  const WinogradOutput arrays = {.input = in.data,
                                 .transformed = transformed,
                                 .epilogue = end,
                                 .out = out.data,
                                 .input_stride = in.stride,
                                 .out_stride = out.stride};
  const int64_t size = kernels->output_scratch(s);
  return [this, kernels, s, arrays, size](const Inputs&) {
    Team& team = Team::get();
    float* all = scratch(size);
    team.share(kernels->output_tasks(s), 1, [&](int64_t first, int64_t last, int thread) {
      kernels->output(s, arrays, all + thread * size, {first, last});
    });
  };
}

DepthwiseConv Program::depthwise(const Image& in, const Image& out, const at::Tensor& weight,
                                 const Window& window, const Epilogue& end) {
  const int64_t taps = window.taps();
  float* packed = kept_.take(taps * in.channels);
  const float* from = weight.const_data_ptr<float>();
  for (int64_t c = 0; c < in.channels; ++c) {
    for (int64_t tap = 0; tap < taps; ++tap) packed[tap * in.channels + c] = from[c * taps + tap];
  }
  return {in, out, window, packed, end};
}

Task Program::convolution(const Image& in, const Image& out, const at::Tensor& weight,
                          const Window& window, int64_t groups, const Epilogue& end, int64_t way,
                          Memory& memory) {
  switch (way) {
    case kDirect:
      return direct(in, out, weight, window, groups, end, memory);
    case kGathered:
      if (groups > 1 || window.is_point()) return {};
      return gathered(in, out, weight, window, end, memory);
    default:
      return winograd(in, out, weight, window, groups, end, way, memory);
  }
}

void Program::convolve(const Place& from, const Place& to, const at::Tensor& weight,
                       const WindowNumbers& window, int64_t groups, const MaybeTensor& bias,
                       const std::optional<Place>& add, const MaybeTensor& slopes, double floor,
                       double ceiling, int64_t way) {
  const Image in = image("from", from), out = image("to", to);
  const Window w = window_of(window);
  check_sizes(in, out, w, groups);
  check_weight(weight, out.channels, in.channels / groups * w.taps());
  const at::Tensor dense = weight.contiguous();
  Epilogue end = epilogue(bias, slopes, floor, ceiling, out.channels);
  add_blob(end, add, out);
  if (groups == in.channels && groups == out.channels && groups > 1) {
    const DepthwiseConv conv = depthwise(in, out, dense, w, end);
    tasks_.push_back([conv, kernels = kernels_](const Inputs&) {
      share_out(kernels->depthwise_tasks(conv), conv.out.width * conv.out.channels * 4,
                [&](int64_t first, int64_t last) { kernels->depthwise(conv, {first, last}); });
    });
    ways_.push_back(kDirect);
    return;
  }
  Choice choice;
  choice.task = tasks_.size();
  choice.number = ways_.size();
  choice.make = [=, this](int64_t way, Memory& memory) {
    return convolution(in, out, dense, w, groups, end, way, memory);
  };
  for (const int64_t candidate : {kDirect, kGathered, kWinograd2, kWinograd4}) {
    if (way >= 0 ? way != candidate : !is_worth_trying(out, candidate)) continue;
    Task task = choice.make(candidate, way >= 0 ? kept_ : trials_);
    if (task) choice.candidates.push_back({candidate, std::move(task)});
  }
  CAFFE_COMPAT_CHECK_VALUE(!choice.candidates.empty(), "InferenceProgram: way is ", way,
                           "; this convolution has no such kernel (0 always fits)");
  tasks_.push_back(choice.candidates[0].task);
  ways_.push_back(choice.candidates[0].way);
  if (way < 0) choices_.push_back(std::move(choice));
}

void Program::separable(const Place& from, const Place& to, const at::Tensor& first_weight,
                        const WindowNumbers& window, const MaybeTensor& first_bias,
                        const MaybeTensor& first_slopes, double first_floor, double first_ceiling,
                        const at::Tensor& weight, const MaybeTensor& bias,
                        const std::optional<Place>& add, const MaybeTensor& slopes, double floor,
                        double ceiling) {
  const Image in = image("from", from), out = image("to", to);
  const Window w = window_of(window);
  check_sizes(in, out, w, 1);
  check_weight(first_weight, in.channels, w.taps());
  check_weight(weight, out.channels, in.channels);
  const Image between = {nullptr, out.batch, out.height, out.width, in.channels, in.channels};
  const Epilogue first_end =
      epilogue(first_bias, first_slopes, first_floor, first_ceiling, in.channels);
  Epilogue end = epilogue(bias, slopes, floor, ceiling, out.channels);
  add_blob(end, add, out);
  float* packed = kept_.take(kernels_->packed_size(out.channels, 1, in.channels));
  kernels_->pack_weights(weight.contiguous().const_data_ptr<float>(), out.channels, 1, in.channels,
                         1, packed);
  const SeparableConv conv = {depthwise(in, between, first_weight.contiguous(), w, first_end),
                              {between, out, {1, 1, 1, 1, 0, 0, 1, 1}, 1, packed, end}};
  tasks_.push_back([this, conv](const Inputs&) {
    Team& team = Team::get();
    const int threads = team.size();
    const int64_t size = kernels_->separable_scratch(conv, threads);
    float* all = scratch(size);
    team.share(kernels_->separable_tasks(conv, threads), 1,
               [&](int64_t first, int64_t last, int thread) {
                 kernels_->separable(conv, threads, all + thread * size, {first, last});
               });
  });
}

void Program::add_blob(Epilogue& end, const std::optional<Place>& add, const Image& out) const {
  if (!add) return;
  const Image more = image("add", *add);
  CAFFE_COMPAT_CHECK_VALUE(more.pixels() == out.pixels() && more.channels == out.channels,
                           "InferenceProgram: add has other sizes than to");
  end.add = more.data;
  end.add_stride = more.stride;
}

}  // namespace caffe_compat
