// torch.classes.caffe_compat.InferenceProgram: layers bound to their blobs, run one after the
// other.
//
// All blobs of a program lie in one tensor, its arena; who makes the program says where
// (caffe_compat/net/inference_program.py).  Adding a layer packs its weights; choose(), called
// once when all are there, finds the fastest kernels; run() calls them and takes no memory.
#pragma once

#include <ATen/core/Tensor.h>
#include <torch/custom_class.h>

#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "inference/inference.h"
#include "inference/memory.h"

namespace caffe_compat {

// A blob in the arena: {first number, batch, height, width, channels, numbers from pixel to pixel}.
using Place = std::vector<int64_t>;
// {kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w}
using WindowNumbers = std::vector<int64_t>;
// How a convolution is computed: as a product of the image as it lies; as a product of a matrix
// that each pixel's window is copied into; by Winograd's filtering with tiles of 2 x 2 or 4 x 4
// outputs.
enum Way : int64_t { kDirect = 0, kGathered = 1, kWinograd2 = 2, kWinograd4 = 4 };

using MaybeTensor = std::optional<at::Tensor>;
using Inputs = std::vector<at::Tensor>;
using Task = std::function<void(const Inputs&)>;

class Program : public torch::CustomClassHolder {
 public:
  explicit Program(const at::Tensor& arena);

  // Copies input number `input` of run(), (batch, channels[, height, width]) with any strides.
  void load(int64_t input, const Place& to);
  // The weight is (outputs, channels / groups, kernel_h, kernel_w).  `way`: how, see Way; -1 leaves
  // it to choose().
  void convolve(const Place& from, const Place& to, const at::Tensor& weight,
                const WindowNumbers& window, int64_t groups, const MaybeTensor& bias,
                const std::optional<Place>& add, const MaybeTensor& slopes, double floor,
                double ceiling, int64_t way);
  // A depthwise convolution and the 1x1 convolution of stride 1 behind it, which alone reads it.
  // Weights (channels, 1, kernel_h, kernel_w) and (outputs, channels, 1, 1); the rest as above, of
  // the second's output but for the first_... ones.
  void separable(const Place& from, const Place& to, const at::Tensor& first_weight,
                 const WindowNumbers& window, const MaybeTensor& first_bias,
                 const MaybeTensor& first_slopes, double first_floor, double first_ceiling,
                 const at::Tensor& weight, const MaybeTensor& bias, const std::optional<Place>& add,
                 const MaybeTensor& slopes, double floor, double ceiling);
  void multiply(const Place& from, const Place& to, const at::Tensor& weight,
                const MaybeTensor& bias, const MaybeTensor& slopes, double floor, double ceiling);
  void pool(const Place& from, const Place& to, const WindowNumbers& window, bool average);
  void lrn(const Place& from, const Place& to, int64_t local_size, double alpha, double beta,
           double k);
  // Over the channels of each pixel; for few pixels.
  void softmax(const Place& from, const Place& to);
  // to = epilogue(scale * (first_factor * first + second_factor * second))
  void pointwise(const Place& first, const std::optional<Place>& second, double first_factor,
                 double second_factor, const MaybeTensor& scale, const MaybeTensor& bias,
                 const MaybeTensor& slopes, double floor, double ceiling, const Place& to);

  // Runs the whole some times to find the fastest way for each convolution, among all layers'
  // memory traffic, and takes it.  Returns the ways of all convolutions, in the order in which they
  // were added.
  std::vector<int64_t> choose(const Inputs& inputs);
  void run(const Inputs& inputs);
  // Milliseconds of each layer, in the order in which they were added: the best of `rounds`.
  std::vector<double> profile(const Inputs& inputs, int64_t rounds);

 private:
  struct Candidate {
    int64_t way;
    Task task;
    double time = std::numeric_limits<double>::infinity();  // milliseconds
  };
  // A convolution whose way is not chosen yet.
  struct Choice {
    size_t task, number;  // in tasks_, in ways_
    std::function<Task(int64_t way, Memory&)> make;
    std::vector<Candidate> candidates;
  };

  Image image(const char* what, const Place& place) const;
  static Window window_of(const WindowNumbers& numbers);
  const float* keep(const MaybeTensor& tensor, const char* what, int64_t count);
  Epilogue epilogue(const MaybeTensor& bias, const MaybeTensor& slopes, double floor,
                    double ceiling, int64_t outputs);

  // Ways of convolution (program_convolution.cpp), which take their weights' memory from `memory`;
  // an empty task where a way does not fit.
  Task convolution(const Image& in, const Image& out, const at::Tensor& weight,
                   const Window& window, int64_t groups, const Epilogue& end, int64_t way,
                   Memory& memory);
  Task direct(Image in, const Image& out, const at::Tensor& weight, Window window, int64_t groups,
              const Epilogue& end, Memory& memory);
  Task gathered(const Image& in, const Image& out, const at::Tensor& weight, const Window& window,
                const Epilogue& end, Memory& memory);
  Task winograd(const Image& in, const Image& out, const at::Tensor& weight, const Window& window,
                int64_t groups, const Epilogue& end, int64_t tile, Memory& memory);
  DepthwiseConv depthwise(const Image& in, const Image& out, const at::Tensor& weight,
                          const Window& window, const Epilogue& end);
  void add_blob(Epilogue& end, const std::optional<Place>& add, const Image& out) const;
  // At least `numbers` for each of the team's threads, until the next call.
  float* scratch(int64_t numbers);
  Task pad_into(const Image& in, const Image& padded, const Window& window);

  const InferenceKernels* kernels_;
  at::Tensor arena_;
  Memory kept_, trials_;
  std::vector<Task> tasks_;
  std::vector<int64_t> ways_;
  std::vector<Choice> choices_;
  at::Tensor scratch_;
};

}  // namespace caffe_compat
