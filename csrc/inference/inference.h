// Kernels for running a net whose weights no longer change: float32 on the CPU, channels last.
//
// A blob is an `Image`: pixels of `channels` numbers, `stride` numbers from one pixel to the next,
// so that a layer can write its channels right into a wider blob (Concat).  Weights are packed
// once, when a Program (program.h) is made.
//
// Each function works on a range of tasks, so that the caller can share them out among threads; the
// results do not depend on how.
#pragma once

#include <cstdint>

#include "common/task_range.h"
#include "conv/epilogue.h"

namespace caffe_compat {

struct Image {
  float* data;
  int64_t batch, height, width, channels;
  int64_t stride;

  int64_t pixels() const { return batch * height * width; }
  bool is_dense() const { return stride == channels; }
};

struct Window {
  int64_t kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w;

  int64_t taps() const { return kernel_h * kernel_w; }
  // One pixel of the input for each of the output, in the same order.
  bool is_point() const {
    return taps() == 1 && stride_h == 1 && stride_w == 1 && pad_h == 0 && pad_w == 0;
  }
};

// A convolution as a matrix product whose rows are output pixels.  The input has its padding
// written out; the window says none.
struct DirectConv {
  Image in, out;
  Window window;
  int64_t groups;
  const float* packed;  // by pack_weights
  Epilogue epilogue;

  int64_t group_channels() const { return in.channels / groups; }
  int64_t group_outputs() const { return out.channels / groups; }
};

struct DepthwiseConv {
  Image in, out;
  Window window;
  const float* weight;  // (taps, channels)
  Epilogue epilogue;
  int64_t first_pixel = 0;  // which one of the output out.data is
};

// point(depthwise(depthwise.in)): a 1x1 convolution of stride 1 and one group behind a depthwise
// one. Of the blob between them only the sizes count: depthwise.out.data and point.in.data are not
// read.
struct SeparableConv {
  DepthwiseConv depthwise;
  DirectConv point;
};

struct Pool {
  Image in, out;
  Window window;
  bool average;  // over the window clipped to the padded input, as in Caffe; else the maximum
};

// out = epilogue(scale * (first_factor * first + second_factor * second)), pixel for pixel.
struct Pointwise {
  Image first, out;
  const float* second;  // may be null
  int64_t second_stride;
  float first_factor, second_factor;
  const float* scale;  // one for each channel; may be null
  Epilogue epilogue;
};

// out = epilogue(x weight^T): x (batch, inputs), weight (outputs, inputs), out (batch, outputs).
struct Product {
  const float *x, *weight;
  int64_t batch, inputs, outputs, out_stride;
  Epilogue epilogue;
  float* out;
};

struct InferenceKernels {
  // Weights (outputs, channels / groups, kernel_h, kernel_w) as `direct` reads them.
  int64_t (*packed_size)(int64_t outputs, int64_t groups, int64_t depth);
  void (*pack_weights)(const float* weight, int64_t outputs, int64_t groups, int64_t channels,
                       int64_t taps, float* packed);
  int64_t (*direct_tasks)(const DirectConv&, int threads);
  void (*direct)(const DirectConv&, int threads, TaskRange tasks);
  int64_t (*depthwise_tasks)(const DepthwiseConv&);
  void (*depthwise)(const DepthwiseConv&, TaskRange tasks);
  // scratch: separable_scratch numbers for each thread.
  int64_t (*separable_tasks)(const SeparableConv&, int threads);
  int64_t (*separable_scratch)(const SeparableConv&, int threads);
  void (*separable)(const SeparableConv&, int threads, float* scratch, TaskRange tasks);
  // A task is a row of output pixels.
  void (*pool)(const Pool&, TaskRange rows);
  // A task is a pixel.
  void (*pointwise)(const Pointwise&, TaskRange pixels);
  int64_t (*product_tasks)(const Product&);
  void (*product)(const Product&, TaskRange tasks);
};

const InferenceKernels& inference_avx2();
const InferenceKernels& inference_avx512();

}  // namespace caffe_compat
