// torch.classes.caffe_compat.InferenceProgram: layers bound to their blobs, run one after the
// other.
//
// All blobs of a program lie in one tensor, its arena; who makes the program says where
// (caffe_compat/net/inference_program.py).  Adding a layer packs its weights and chooses its
// kernel; run() calls the kernels and takes no memory.
#pragma once

#include <ATen/core/Tensor.h>
#include <torch/custom_class.h>

#include <functional>
#include <string>
#include <vector>

#include "inference/inference.h"

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

class Program : public torch::CustomClassHolder {
 public:
  explicit Program(const at::Tensor& arena);

  // Copies input number `input` of run(), (batch, channels[, height, width]) with any strides.
  void load(int64_t input, const Place& to);
  // The weight is (outputs, channels / groups, kernel_h, kernel_w).  `way`: how, see Way; -1 takes
  // the fastest by trying.  Returns the one taken.
  int64_t convolve(const Place& from, const Place& to, const at::Tensor& weight,
                   const WindowNumbers& window, int64_t groups, const MaybeTensor& bias,
                   const std::optional<Place>& add, const MaybeTensor& slopes, double floor,
                   double ceiling, int64_t way);
  void multiply(const Place& from, const Place& to, const at::Tensor& weight,
                const MaybeTensor& bias, const MaybeTensor& slopes, double floor, double ceiling);
  void pool(const Place& from, const Place& to, const WindowNumbers& window, bool average);
  void lrn(const Place& from, const Place& to, int64_t local_size, double alpha, double beta,
           double k);
  // to = epilogue(scale * (first_factor * first + second_factor * second))
  void pointwise(const Place& first, const std::optional<Place>& second, double first_factor,
                 double second_factor, const MaybeTensor& scale, const MaybeTensor& bias,
                 const MaybeTensor& slopes, double floor, double ceiling, const Place& to);

  void run(const std::vector<at::Tensor>& inputs);
  // Milliseconds of each layer, in the order in which they were added: the best of `rounds`.
  std::vector<double> profile(const std::vector<at::Tensor>& inputs, int64_t rounds);

 private:
  using Inputs = std::vector<at::Tensor>;
  using Task = std::function<void(const Inputs&)>;

  Image image(const char* what, const Place& place) const;
  float* memory(int64_t numbers);
  const float* keep(const MaybeTensor& tensor, const char* what, int64_t count);
  Epilogue epilogue(const MaybeTensor& bias, const MaybeTensor& slopes, double floor,
                    double ceiling, int64_t outputs);
  Task direct(Image in, const Image& out, const at::Tensor& weight, Window window, int64_t groups,
              const Epilogue& end);
  Task winograd(const Image& in, const Image& out, const at::Tensor& weight, const Window& window,
                int64_t groups, const Epilogue& end, int64_t tile);
  Task depthwise(const Image& in, const Image& out, const at::Tensor& weight, const Window& window,
                 const Epilogue& end);
  Task gathered(const Image& in, const Image& out, const at::Tensor& weight, const Window& window,
                const Epilogue& end);
  Task pad_into(const Image& in, const Image& padded, const Window& window);

  const InferenceKernels* kernels_;
  at::Tensor arena_;
  std::vector<at::Tensor> kept_;
  std::vector<Task> tasks_;
  at::Tensor scratch_;
};

}  // namespace caffe_compat
