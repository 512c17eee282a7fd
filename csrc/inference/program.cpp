// The layers of program.h: checks of their arguments, packed weights, threads.

#include "inference/program.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <algorithm>
#include <chrono>

#include "common/simd_level.h"
#include "common/tensor_checks.h"
#include "conv/winograd.h"
#include "inference/team.h"
#include "lrn/lrn_cpu.h"

namespace caffe_compat {
namespace {

const InferenceKernels* find_kernels() {
#if CAFFE_COMPAT_HAS_SIMD
  switch (simd_level()) {
    case SimdLevel::kAvx512:
      return &inference_avx512();
    case SimdLevel::kAvx2:
      return &inference_avx2();
    case SimdLevel::kNone:
      break;
  }
#endif
  return nullptr;
}

const WinogradKernels* find_winograd(int out_tile, int kernel) {
#if CAFFE_COMPAT_HAS_SIMD
  switch (simd_level()) {
    case SimdLevel::kAvx512:
      return winograd_avx512(out_tile, kernel);
    case SimdLevel::kAvx2:
      return winograd_avx2(out_tile, kernel);
    case SimdLevel::kNone:
      break;
  }
#endif
  return nullptr;
}

Window window_of(const WindowNumbers& numbers) {
  CAFFE_COMPAT_CHECK_VALUE(numbers.size() == 8, "InferenceProgram: a window has ", numbers.size(),
                           " numbers; expected 8");
  return {numbers[0], numbers[1], numbers[2], numbers[3],
          numbers[4], numbers[5], numbers[6], numbers[7]};
}

// The output's size along one axis, rounded down; a layer that rounds up has larger ones.
int64_t fitting(int64_t size, int64_t kernel, int64_t stride, int64_t pad, int64_t dilation) {
  return (size + 2 * pad - dilation * (kernel - 1) - 1) / stride + 1;
}

bool is_dense(const Image& image) { return image.stride == image.channels; }

// Runs task(first, last) over `count` tasks, each of about `numbers` numbers read and written.
template <typename Task>
void share(int64_t count, int64_t numbers, const Task& task) {
  constexpr int64_t kNumbersAtATime = 8192;  // for fewer, handing them on costs more
  const int64_t each = std::max<int64_t>(1, kNumbersAtATime / std::max<int64_t>(1, numbers));
  Team::get().share(count, each, [&](int64_t first, int64_t last, int) { task(first, last); });
}

// Weights are not in a core's own caches when a layer's turn comes; nor may they be in a trial.
void empty_caches() {
  constexpr int64_t kNumbers = 1 << 20;  // 4 MiB for each thread
  Team& team = Team::get();
  static const at::Tensor other = at::zeros({kNumbers * team.size()}, at::kFloat);
  const float* data = other.const_data_ptr<float>();
  team.share(other.numel() / kNumbers, 1, [&](int64_t first, int64_t last, int) {
    float sum = 0;
    for (int64_t i = first * kNumbers; i < last * kNumbers; i += 16) sum += data[i];
    volatile float used = sum;
    (void)used;
  });
}

}  // namespace

Program::Program(const at::Tensor& arena) : kernels_(find_kernels()), arena_(arena) {
  CAFFE_COMPAT_CHECK_VALUE(kernels_ != nullptr,
                           "InferenceProgram: this machine has neither AVX2 nor AVX-512");
  CAFFE_COMPAT_CHECK_TYPE(arena.scalar_type() == at::kFloat && arena.is_cpu() && arena.dim() == 1 &&
                              arena.is_contiguous(),
                          "InferenceProgram: the arena is ", describe(arena),
                          "; expected one axis of float32 on the CPU");
}

Image Program::image(const char* what, const Place& place) const {
  CAFFE_COMPAT_CHECK_VALUE(place.size() == 6, "InferenceProgram: ", what, " has ", place.size(),
                           " numbers; expected 6");
  const Image image = {nullptr, place[1], place[2], place[3], place[4], place[5]};
  const bool fits =
      std::all_of(place.begin() + 1, place.end(), [](int64_t n) { return n > 0; }) &&
      place[0] >= 0 && image.stride >= image.channels &&
      place[0] + (image.pixels() - 1) * image.stride + image.channels <= arena_.numel();
  CAFFE_COMPAT_CHECK_VALUE(fits, "InferenceProgram: ", what, " does not lie in the arena");
  Image placed = image;
  placed.data = arena_.data_ptr<float>() + place[0];
  return placed;
}

float* Program::memory(int64_t numbers) {
  kept_.push_back(at::zeros({numbers + 16}, at::kFloat));
  float* data = kept_.back().data_ptr<float>();
  return data + (16 - reinterpret_cast<uintptr_t>(data) / sizeof(float) % 16) % 16;
}

const float* Program::keep(const MaybeTensor& tensor, const char* what, int64_t count) {
  if (!tensor) return nullptr;
  CAFFE_COMPAT_CHECK_VALUE(
      tensor->scalar_type() == at::kFloat && tensor->is_cpu() && tensor->numel() == count,
      "InferenceProgram: ", what, " is ", describe(*tensor), "; expected ", count,
      " numbers of float32 on the CPU");
  const at::Tensor dense = tensor->contiguous();
  float* copy = memory(count);
  std::copy_n(dense.const_data_ptr<float>(), count, copy);
  return copy;
}

Epilogue Program::epilogue(const MaybeTensor& bias, const MaybeTensor& slopes, double floor,
                           double ceiling, int64_t outputs) {
  Epilogue end;
  end.bias = keep(bias, "bias", outputs);
  end.slopes = keep(slopes, "slopes", outputs);
  end.floor = static_cast<float>(floor);
  end.ceiling = static_cast<float>(ceiling);
  return end;
}

void Program::load(int64_t input, const Place& to) {
  const Image out = image("to", to);
  tasks_.push_back([input, out](const Inputs& inputs) {
    const at::Tensor& tensor = inputs.at(input);
    const bool fits =
        tensor.scalar_type() == at::kFloat && tensor.is_cpu() &&
        (tensor.dim() == 4 || (tensor.dim() == 2 && out.height * out.width == 1)) &&
        tensor.size(0) == out.batch && tensor.size(1) == out.channels &&
        (tensor.dim() == 2 || (tensor.size(2) == out.height && tensor.size(3) == out.width));
    CAFFE_COMPAT_CHECK_VALUE(fits, "InferenceProgram: input ", input, " is ", describe(tensor),
                             "; expected float32 of the shape that the program was made for");
    const bool plane = tensor.dim() == 4;
    const int64_t step_c = tensor.stride(1), step_y = plane ? tensor.stride(2) : 0,
                  step_x = plane ? tensor.stride(3) : 0, step_n = tensor.stride(0);
    const float* data = tensor.const_data_ptr<float>();
    share(out.batch * out.height, out.width * out.channels, [&](int64_t first, int64_t last) {
      for (int64_t row = first; row < last; ++row) {
        const float* from = data + row / out.height * step_n + row % out.height * step_y;
        float* line = out.data + row * out.width * out.stride;
        if (step_c == 1) {
          for (int64_t x = 0; x < out.width; ++x) {
            std::copy_n(from + x * step_x, out.channels, line + x * out.stride);
          }
        } else if (out.channels == 3) {  // images as they are read
          const float *red = from, *green = from + step_c, *blue = from + 2 * step_c;
          for (int64_t x = 0; x < out.width; ++x) {
            float* pixel = line + x * out.stride;
            pixel[0] = red[x * step_x];
            pixel[1] = green[x * step_x];
            pixel[2] = blue[x * step_x];
          }
        } else {
          for (int64_t c = 0; c < out.channels; ++c) {
            for (int64_t x = 0; x < out.width; ++x) {
              line[x * out.stride + c] = from[c * step_c + x * step_x];
            }
          }
        }
      }
    });
  });
}

Program::Task Program::pad_into(const Image& in, const Image& padded, const Window& window) {
  return [in, padded, window](const Inputs&) {
    share(in.batch * in.height, in.width * in.channels, [&](int64_t first, int64_t last) {
      for (int64_t row = first; row < last; ++row) {
        const int64_t n = row / in.height, y = row % in.height + window.pad_h;
        const float* from = in.data + row * in.width * in.stride;
        float* to =
            padded.data + ((n * padded.height + y) * padded.width + window.pad_w) * padded.stride;
        if (is_dense(in)) {
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

Program::Task Program::direct(Image in, const Image& out, const at::Tensor& weight, Window window,
                              int64_t groups, const Epilogue& end) {
  Task pad;
  if (window.pad_h || window.pad_w) {
    // The margins stay zero: only the inside is written again.
    Image padded = in;
    padded.height += 2 * window.pad_h;
    padded.width += 2 * window.pad_w;
    padded.stride = in.channels;
    padded.data = memory(padded.pixels() * padded.channels);
    pad = pad_into(in, padded, window);
    in = padded;
    window.pad_h = window.pad_w = 0;
  }
  const int64_t channels = in.channels / groups;
  float* packed = memory(kernels_->packed_size(out.channels, groups, channels * window.taps()));
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

Program::Task Program::gathered(const Image& in, const Image& out, const at::Tensor& weight,
                                const Window& window, const Epilogue& end) {
  const int64_t depth = in.channels * window.taps();
  const Image rows = {memory(out.pixels() * depth), out.batch, out.height, out.width, depth, depth};
  const Task multiply = direct(
      rows, out,
      [&] {
        // (outputs, channels, taps) -> (outputs, taps and channels)
        return weight.view({out.channels, in.channels, -1}).transpose(1, 2).contiguous();
      }(),
      {1, 1, 1, 1, 0, 0, 1, 1}, 1, end);
  return [in, rows, window, multiply](const Inputs& inputs) {
    share(rows.batch * rows.height, rows.width * rows.channels, [&](int64_t first, int64_t last) {
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

Program::Task Program::winograd(const Image& in, const Image& out, const at::Tensor& weight,
                                const Window& window, int64_t groups, const Epilogue& end,
                                int64_t tile) {
  constexpr int64_t kFewestChannels = 8;  // with fewer the products are too thin
  const bool fits = window.kernel_h == window.kernel_w && window.stride_h == 1 &&
                    window.stride_w == 1 && window.dilation_h == 1 && window.dilation_w == 1 &&
                    in.channels / groups >= kFewestChannels &&
                    out.channels / groups >= kFewestChannels;
  const WinogradKernels* kernels =
      fits ? find_winograd(static_cast<int>(tile), static_cast<int>(window.kernel_h)) : nullptr;
  if (!kernels) return {};
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
                           .kernel = static_cast<int>(window.kernel_h)};
  const int64_t depth = in.channels / groups * window.taps();
  const WinogradWeights<const float> weights = {.data = weight.const_data_ptr<float>(),
                                                .group_stride = out.channels / groups * depth,
                                                .output_stride = depth,
                                                .channel_stride = window.taps(),
                                                .rotated = false};
  float* transformed = memory(kernels->weight_size(s));
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
    const int64_t threads = team.size();
    if (!scratch_.defined() || scratch_.numel() < threads * size) {
      scratch_ = at::empty({threads * size}, at::kFloat);
    }
    float* scratch = scratch_.data_ptr<float>();
    team.share(kernels->output_tasks(s), 1, [&](int64_t first, int64_t last, int thread) {
      kernels->output(s, arrays, scratch + thread * size, {first, last});
    });
  };
}

Program::Task Program::depthwise(const Image& in, const Image& out, const at::Tensor& weight,
                                 const Window& window, const Epilogue& end) {
  const int64_t taps = window.taps();
  float* packed = memory(taps * in.channels);
  const float* from = weight.const_data_ptr<float>();
  for (int64_t c = 0; c < in.channels; ++c) {
    for (int64_t tap = 0; tap < taps; ++tap) packed[tap * in.channels + c] = from[c * taps + tap];
  }
  const DepthwiseConv conv = {in, out, window, packed, end};
  return [conv, kernels = kernels_](const Inputs&) {
    share(conv.out.batch * conv.out.height, conv.out.width * conv.out.channels * 2,
          [&](int64_t first, int64_t last) { kernels->depthwise(conv, {first, last}); });
  };
}

int64_t Program::convolve(const Place& from, const Place& to, const at::Tensor& weight,
                          const WindowNumbers& window, int64_t groups, const MaybeTensor& bias,
                          const std::optional<Place>& add, const MaybeTensor& slopes, double floor,
                          double ceiling, int64_t way) {
  const Image in = image("from", from), out = image("to", to);
  const Window w = window_of(window);
  const bool fits =
      groups > 0 && in.channels % groups == 0 && out.channels % groups == 0 &&
      in.batch == out.batch && w.stride_h > 0 && w.stride_w > 0 && w.dilation_h > 0 &&
      w.dilation_w > 0 && w.pad_h >= 0 && w.pad_w >= 0 && w.taps() > 0 &&
      out.height == fitting(in.height, w.kernel_h, w.stride_h, w.pad_h, w.dilation_h) &&
      out.width == fitting(in.width, w.kernel_w, w.stride_w, w.pad_w, w.dilation_w);
  CAFFE_COMPAT_CHECK_VALUE(fits, "InferenceProgram: sizes of a convolution do not fit each other");
  CAFFE_COMPAT_CHECK_VALUE(weight.scalar_type() == at::kFloat && weight.is_cpu() &&
                               weight.numel() == out.channels * (in.channels / groups) * w.taps(),
                           "InferenceProgram: weight is ", describe(weight),
                           "; expected float32 for ", out.channels, " outputs of ",
                           in.channels / groups * w.taps(), " numbers");
  const at::Tensor dense = weight.contiguous();
  Epilogue end = epilogue(bias, slopes, floor, ceiling, out.channels);
  if (add) {
    const Image more = image("add", *add);
    CAFFE_COMPAT_CHECK_VALUE(more.pixels() == out.pixels() && more.channels == out.channels,
                             "InferenceProgram: add has other sizes than to");
    end.add = more.data;
    end.add_stride = more.stride;
  }
  if (groups == in.channels && groups == out.channels && groups > 1) {
    tasks_.push_back(depthwise(in, out, dense, w, end));
    return 0;
  }
  const Team::Shift shift;
  constexpr int kTrials = 6;  // the first touches the memory
  Task best;
  int64_t taken = kDirect;
  double least = 0;
  for (const int64_t candidate : {kDirect, kGathered, kWinograd2, kWinograd4}) {
    if (way >= 0 && way != candidate) continue;
    const size_t before = kept_.size();
    Task task;
    if (candidate == kDirect) {
      task = direct(in, out, dense, w, groups, end);
    } else if (candidate == kGathered) {
      // Wide images are runs of pixels that are long enough as they lie.
      constexpr int64_t kWidest = 32;
      if (groups == 1 && !w.is_point() && (out.width <= kWidest || way == candidate)) {
        task = gathered(in, out, dense, w, end);
      }
    } else {
      task = winograd(in, out, dense, w, groups, end, candidate);
    }
    if (!task) continue;
    double time = 0;
    for (int round = 0; way < 0 && round < kTrials; ++round) {
      empty_caches();
      const auto start = std::chrono::steady_clock::now();
      task({});
      const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
      if (round == 1 || (round > 1 && took.count() < time)) time = took.count();
    }
    if (best && time >= least) {
      kept_.resize(before);
      continue;
    }
    best = task;
    taken = candidate;
    least = time;
  }
  CAFFE_COMPAT_CHECK_VALUE(static_cast<bool>(best), "InferenceProgram: way is ", way,
                           "; this convolution has no such kernel (0 always fits)");
  tasks_.push_back(best);
  return taken;
}

void Program::multiply(const Place& from, const Place& to, const at::Tensor& weight,
                       const MaybeTensor& bias, const MaybeTensor& slopes, double floor,
                       double ceiling) {
  const Image in = image("from", from), out = image("to", to);
  const int64_t inputs = in.height * in.width * in.channels;
  const bool fits = is_dense(in) && out.height * out.width == 1 && in.batch == out.batch &&
                    weight.scalar_type() == at::kFloat && weight.is_cpu() &&
                    weight.numel() == inputs * out.channels;
  CAFFE_COMPAT_CHECK_VALUE(fits, "InferenceProgram: weight of an inner product is ",
                           describe(weight), "; expected float32, (", out.channels, ", ", inputs,
                           ") for dense inputs");
  const Product product = {.x = in.data,
                           .weight = keep(weight, "weight", weight.numel()),
                           .batch = in.batch,
                           .inputs = inputs,
                           .outputs = out.channels,
                           .out_stride = out.stride,
                           .epilogue = epilogue(bias, slopes, floor, ceiling, out.channels),
                           .out = out.data};
  tasks_.push_back([product, kernels = kernels_](const Inputs&) {
    share(kernels->product_tasks(product), product.inputs * 8,
          [&](int64_t first, int64_t last) { kernels->product(product, {first, last}); });
  });
}

void Program::pool(const Place& from, const Place& to, const WindowNumbers& window, bool average) {
  const Pool pool = {image("from", from), image("to", to), window_of(window), average};
  const Window& w = pool.window;
  const bool fits = pool.in.batch == pool.out.batch && pool.in.channels == pool.out.channels &&
                    w.taps() > 0 && w.stride_h > 0 && w.stride_w > 0 && w.dilation_h == 1 &&
                    w.dilation_w == 1 &&
                    (pool.out.height - 1) * w.stride_h - w.pad_h < pool.in.height &&
                    (pool.out.width - 1) * w.stride_w - w.pad_w < pool.in.width &&
                    w.pad_h < w.kernel_h && w.pad_w < w.kernel_w;
  CAFFE_COMPAT_CHECK_VALUE(fits, "InferenceProgram: sizes of a pooling do not fit each other");
  tasks_.push_back([pool, kernels = kernels_](const Inputs&) {
    share(pool.out.batch * pool.out.height,
          pool.out.width * pool.out.channels * pool.window.taps() / 2,
          [&](int64_t first, int64_t last) { kernels->pool(pool, {first, last}); });
  });
}

void Program::lrn(const Place& from, const Place& to, int64_t local_size, double alpha, double beta,
                  double k) {
  const Image in = image("from", from), out = image("to", to);
  CAFFE_COMPAT_CHECK_VALUE(
      is_dense(in) && is_dense(out) && in.pixels() == out.pixels() && in.channels == out.channels,
      "InferenceProgram: LRN takes dense blobs of one shape");
  const LrnParams params = {
      .size = local_size, .alpha = alpha, .beta = beta, .k = k, .within_channel = false};
  tasks_.push_back([in, out, params](const Inputs&) {
    constexpr int64_t kPixels = 64;  // so few that LRN's own sharing leaves them to one thread
    const int64_t pixels = in.pixels(), channels = in.channels;
    share((pixels + kPixels - 1) / kPixels, kPixels * channels, [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i) {
        const int64_t from = i * kPixels, count = std::min(kPixels, pixels - from);
        const LrnShape shape = {
            .batch = 1, .channels = channels, .height = 1, .width = count, .channels_last = true};
        lrn_forward_cpu<float>(in.data + from * channels, out.data + from * channels, shape,
                               params);
      }
    });
  });
}

void Program::pointwise(const Place& first, const std::optional<Place>& second, double first_factor,
                        double second_factor, const MaybeTensor& scale, const MaybeTensor& bias,
                        const MaybeTensor& slopes, double floor, double ceiling, const Place& to) {
  const Image out = image("to", to), one = image("first", first);
  const Image two = second ? image("second", *second) : one;
  CAFFE_COMPAT_CHECK_VALUE(one.pixels() == out.pixels() && one.channels == out.channels &&
                               two.pixels() == out.pixels() && two.channels == out.channels,
                           "InferenceProgram: blobs of a pointwise layer have other sizes");
  const Pointwise work = {
      .first = one,
      .out = out,
      .second = second ? two.data : nullptr,
      .second_stride = two.stride,
      .first_factor = static_cast<float>(first_factor),
      .second_factor = static_cast<float>(second_factor),
      .scale = keep(scale, "scale", out.channels),
      .epilogue = epilogue(bias, slopes, floor, ceiling, out.channels),
  };
  tasks_.push_back([work, kernels = kernels_](const Inputs&) {
    share(work.out.pixels(), work.out.channels,
          [&](int64_t begin, int64_t end) { kernels->pointwise(work, {begin, end}); });
  });
}

void Program::run(const Inputs& inputs) {
  const Team::Shift shift;
  for (const Task& task : tasks_) task(inputs);
}

std::vector<double> Program::profile(const Inputs& inputs, int64_t rounds) {
  const Team::Shift shift;
  std::vector<double> best(tasks_.size());
  for (int64_t round = 0; round < rounds; ++round) {
    for (size_t i = 0; i < tasks_.size(); ++i) {
      const auto start = std::chrono::steady_clock::now();
      tasks_[i](inputs);
      const std::chrono::duration<double, std::milli> took =
          std::chrono::steady_clock::now() - start;
      if (round == 0 || took.count() < best[i]) best[i] = took.count();
    }
  }
  return best;
}

TORCH_LIBRARY_FRAGMENT(caffe_compat, m) {
  m.class_<Program>("InferenceProgram")
      .def(torch::init<const at::Tensor&>())
      .def("load", &Program::load)
      .def("convolve", &Program::convolve)
      .def("multiply", &Program::multiply)
      .def("pool", &Program::pool)
      .def("lrn", &Program::lrn)
      .def("pointwise", &Program::pointwise)
      .def("run", &Program::run)
      .def("profile", &Program::profile);
  m.def("has_inference_kernels() -> bool", [] { return find_kernels() != nullptr; });
}

}  // namespace caffe_compat
