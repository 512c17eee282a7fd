// Grouped convolution on CUDA for NCHW tensors, as an implicit matrix product: output, input
// gradient and weight gradient are each one launch over all groups, and the column matrix of im2col
// exists only as tiles in shared memory.
//
//                    rows m                  columns n              depth k
//   output           outputs of a group      pixels of all images   channels of a group, taps
//   input gradient   channels of a group     input pixels           outputs of a group, taps
//   weight gradient  outputs of a group      channels, taps         output pixels, image by image
//
// A float32 product is computed by plain FMA, by TF32 tensor cores, or as three TF32 products of
// split numbers, which keeps float32's accuracy.  float16 and bfloat16 fit into TF32 without loss.
// Sums are float32 (float64 for double), always in the same order.
//
// Bytes moved: each operand once for each row or column of tiles that needs it (mostly from L2),
// the result once; the weight gradient also writes and reads its partial sums.
#pragma once

#include "conv/implicit_gemm.cuh"
#include "conv/weight_grad_gemm.cuh"

namespace caffe_compat {

// y = conv(x, weight) + bias, cut at zero with `relu`.
template <typename T>
void conv_forward_cuda(const T* x, const T* weight, const T* bias, T* y, const ConvSizes& s,
                       bool relu, ConvMath math, cudaStream_t stream) {
  if (s.batch == 0) return;
  conv_cuda::run_gemm(conv_cuda::OutputGemm<T>(x, weight, bias, y, s, relu), 1, math, stream);
}

template <typename T>
void conv_input_grad_cuda(const T* dy, const T* weight, T* dx, const ConvSizes& s, ConvMath math,
                          cudaStream_t stream) {
  if (s.batch == 0) return;
  conv_cuda::run_gemm(conv_cuda::InputGradGemm<T>(dy, weight, dx, s), 1, math, stream);
}

// `partial`: workspace of conv_weight_grad_splits(s) times the weight's size, in the compute type.
template <typename T>
void conv_weight_grad_cuda(const T* dy, const T* x, T* dw, compute_t<T>* partial,
                           const ConvSizes& s, ConvMath math, cudaStream_t stream) {
  const int64_t splits = conv_weight_grad_splits(s), count = s.outputs * s.depth();
  if (count == 0) return;
  conv_cuda::run_gemm(conv_cuda::WeightGradGemm<T>(dy, x, partial, s, splits), splits, math,
                      stream);
  auto kernel = conv_cuda::reduce_split_k<T, compute_t<T>>;
  CAFFE_COMPAT_LAUNCH(kernel, blocks_for(count), kThreads, stream, partial, dw, count, splits);
}

}  // namespace caffe_compat
