// The layers of program.h: checks of their arguments, packed weights, threads.

#include "inference/program.h"

#include <torch/library.h>

#include <algorithm>
#include <chrono>
#include <cmath>

#include "common/simd_level.h"
#include "common/tensor_checks.h"
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

double milliseconds(const Task& task, const Inputs& inputs) {
  const auto start = std::chrono::steady_clock::now();
  task(inputs);
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
      .count();
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

const float* Program::keep(const MaybeTensor& tensor, const char* what, int64_t count) {
  if (!tensor) return nullptr;
  CAFFE_COMPAT_CHECK_VALUE(
      tensor->scalar_type() == at::kFloat && tensor->is_cpu() && tensor->numel() == count,
      "InferenceProgram: ", what, " is ", describe(*tensor), "; expected ", count,
      " numbers of float32 on the CPU");
  const at::Tensor dense = tensor->contiguous();
  float* copy = kept_.take(count);
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

Window Program::window_of(const WindowNumbers& numbers) {
  CAFFE_COMPAT_CHECK_VALUE(numbers.size() == 8, "InferenceProgram: a window has ", numbers.size(),
                           " numbers; expected 8");
  return {numbers[0], numbers[1], numbers[2], numbers[3],
          numbers[4], numbers[5], numbers[6], numbers[7]};
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
    share_out(out.batch * out.height, out.width * out.channels, [&](int64_t first, int64_t last) {
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

void Program::multiply(const Place& from, const Place& to, const at::Tensor& weight,
                       const MaybeTensor& bias, const MaybeTensor& slopes, double floor,
                       double ceiling) {
  const Image in = image("from", from), out = image("to", to);
  const int64_t inputs = in.height * in.width * in.channels;
  const bool fits = in.is_dense() && out.height * out.width == 1 && in.batch == out.batch &&
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
    share_out(kernels->product_tasks(product), product.inputs * 8,
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
    share_out(pool.out.batch * pool.out.height,
              pool.out.width * pool.out.channels * pool.window.taps() / 2,
              [&](int64_t first, int64_t last) { kernels->pool(pool, {first, last}); });
  });
}

void Program::lrn(const Place& from, const Place& to, int64_t local_size, double alpha, double beta,
                  double k) {
  const Image in = image("from", from), out = image("to", to);
  CAFFE_COMPAT_CHECK_VALUE(
      in.is_dense() && out.is_dense() && in.pixels() == out.pixels() && in.channels == out.channels,
      "InferenceProgram: LRN takes dense blobs of one shape");
  const LrnParams params = {
      .size = local_size, .alpha = alpha, .beta = beta, .k = k, .within_channel = false};
  tasks_.push_back([in, out, params](const Inputs&) {
    constexpr int64_t kPixels = 64;  // so few that LRN's own sharing leaves them to one thread
    const int64_t pixels = in.pixels(), channels = in.channels;
    share_out((pixels + kPixels - 1) / kPixels, kPixels * channels,
              [&](int64_t first, int64_t last) {
                for (int64_t i = first; i < last; ++i) {
                  const int64_t from = i * kPixels, count = std::min(kPixels, pixels - from);
                  const LrnShape shape = {.batch = 1,
                                          .channels = channels,
                                          .height = 1,
                                          .width = count,
                                          .channels_last = true};
                  lrn_forward_cpu<float>(in.data + from * channels, out.data + from * channels,
                                         shape, params);
                }
              });
  });
}

void Program::softmax(const Place& from, const Place& to) {
  const Image in = image("from", from), out = image("to", to);
  CAFFE_COMPAT_CHECK_VALUE(in.pixels() == out.pixels() && in.channels == out.channels,
                           "InferenceProgram: blobs of a softmax have other sizes");
  tasks_.push_back([in, out](const Inputs&) {
    for (int64_t pixel = 0; pixel < in.pixels(); ++pixel) {
      const float* x = in.data + pixel * in.stride;
      float* y = out.data + pixel * out.stride;
      const float largest = *std::max_element(x, x + in.channels);
      double sum = 0;
      for (int64_t c = 0; c < in.channels; ++c) {
        y[c] = std::exp(x[c] - largest);
        sum += y[c];
      }
      for (int64_t c = 0; c < in.channels; ++c) y[c] = static_cast<float>(y[c] / sum);
    }
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
    share_out(work.out.pixels(), work.out.channels,
              [&](int64_t begin, int64_t end) { kernels->pointwise(work, {begin, end}); });
  });
}

std::vector<int64_t> Program::choose(const Inputs& inputs) {
  constexpr size_t kTrials = 4;  // of each candidate; the first touches the memory
  std::vector<Choice*> choice_of(tasks_.size());
  size_t most = 0;
  for (Choice& choice : choices_) {
    choice_of[choice.task] = &choice;
    most = std::max(most, choice.candidates.size());
  }
  {
    const Team::Shift shift;
    for (size_t round = 0; round < most * kTrials; ++round) {
      for (size_t i = 0; i < tasks_.size(); ++i) {
        if (choice_of[i] == nullptr) {
          tasks_[i](inputs);
          continue;
        }
        std::vector<Candidate>& candidates = choice_of[i]->candidates;
        Candidate& candidate = candidates[round % candidates.size()];
        const double took = milliseconds(candidate.task, inputs);
        if (round >= most) candidate.time = std::min(candidate.time, took);
      }
    }
  }
  for (Choice& choice : choices_) {
    const auto quicker = [](const Candidate& a, const Candidate& b) { return a.time < b.time; };
    const auto& candidates = choice.candidates;
    ways_[choice.number] = std::min_element(candidates.begin(), candidates.end(), quicker)->way;
    choice.candidates.clear();
  }
  trials_ = Memory();
  for (Choice& choice : choices_) tasks_[choice.task] = choice.make(ways_[choice.number], kept_);
  choices_.clear();
  return ways_;
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
      const double took = milliseconds(tasks_[i], inputs);
      if (round == 0 || took < best[i]) best[i] = took;
    }
  }
  return best;
}

TORCH_LIBRARY_FRAGMENT(caffe_compat, m) {
  m.class_<Program>("InferenceProgram")
      .def(torch::init<const at::Tensor&>())
      .def("load", &Program::load)
      .def("convolve", &Program::convolve)
      .def("separable", &Program::separable)
      .def("multiply", &Program::multiply)
      .def("pool", &Program::pool)
      .def("lrn", &Program::lrn)
      .def("softmax", &Program::softmax)
      .def("pointwise", &Program::pointwise)
      .def("choose", &Program::choose)
      .def("run", &Program::run)
      .def("profile", &Program::profile);
  m.def("has_inference_kernels() -> bool", [] { return find_kernels() != nullptr; });
}

}  // namespace caffe_compat
