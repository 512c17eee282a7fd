// Caffe's own convolution: im2col, then one matrix product per image and group.  Images run side by
// side, except for the weight gradient, which is summed over the images in their order, so that it
// does not depend on the threads.

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <vector>

#include "common/cpu_types.h"
#include "conv/conv_arguments.h"
#include "conv/im2col.h"

namespace caffe_compat {
namespace {

// Whether a kernel of one pixel reads the image as it is, so that no column matrix is needed.
bool is_pointwise(const ConvSizes& s) {
  return s.taps() == 1 && s.stride_h == 1 && s.stride_w == 1 && s.pad_h == 0 && s.pad_w == 0;
}

// The column matrix (channels * taps, out_pixels) of one image; for a pointwise kernel the image
// itself.
template <typename T>
class Columns {
 public:
  Columns(const ConvSizes& sizes, at::ScalarType type)
      : s_(sizes), pointwise_(is_pointwise(sizes)) {
    if (!pointwise_) buffer_ = at::empty({s_.channels * s_.taps(), s_.out_pixels()}, type);
  }

  // Of image n of x; by address, as a view of each image costs as much as a small product.
  at::Tensor read(const at::Tensor& x, int64_t n) {
    if (pointwise_) return matrix_of(x, n);
    const T* from = x.const_data_ptr<T>() + n * s_.channels * s_.pixels();
    T* to = buffer_.mutable_data_ptr<T>();
    at::parallel_for(0, s_.channels * s_.taps(), 16, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        const int64_t tap = row % s_.taps();
        im2col_row(from + row / s_.taps() * s_.pixels(), to + row * s_.out_pixels(), s_,
                   tap / s_.kernel_w, tap % s_.kernel_w);
      }
    });
    return buffer_;
  }

  // Where the caller puts the gradient of the columns; write() then makes the image's of it.
  at::Tensor target(const at::Tensor& x, int64_t n) {
    return pointwise_ ? matrix_of(x, n) : buffer_;
  }

  void write(const at::Tensor& x, int64_t n) {
    if (pointwise_) return;
    const T* from = buffer_.const_data_ptr<T>();
    T* to = x.mutable_data_ptr<T>() + n * s_.channels * s_.pixels();
    at::parallel_for(0, s_.channels, 1, [&](int64_t begin, int64_t end) {
      std::fill(to + begin * s_.pixels(), to + end * s_.pixels(), T(0));
      for (int64_t row = begin * s_.taps(); row < end * s_.taps(); ++row) {
        const int64_t tap = row % s_.taps();
        col2im_row(from + row * s_.out_pixels(), to + row / s_.taps() * s_.pixels(), s_,
                   tap / s_.kernel_w, tap % s_.kernel_w);
      }
    });
  }

 private:
  at::Tensor matrix_of(const at::Tensor& x, int64_t n) const {
    return x.select(0, n).view({s_.channels, s_.out_pixels()});
  }

  const ConvSizes& s_;
  bool pointwise_;
  at::Tensor buffer_;
};

at::Tensor group_rows(const at::Tensor& matrix, int64_t group, int64_t groups) {
  if (groups == 1) return matrix;
  const int64_t rows = matrix.size(0) / groups;
  return matrix.narrow(0, group * rows, rows);
}

// The rows of each group of weights, or of their gradients.
std::vector<at::Tensor> all_group_rows(const at::Tensor& matrix, int64_t groups) {
  std::vector<at::Tensor> all;
  for (int64_t g = 0; g < groups; ++g) all.push_back(group_rows(matrix, g, groups));
  return all;
}

// All images as matrices (batch, outputs, out_pixels).
at::Tensor out_matrices(const at::Tensor& y, const ConvSizes& s) {
  return y.view({s.batch, s.outputs, s.out_pixels()});
}

// On several threads where the images are not shared out among them already.
template <typename T>
void add_bias(T* __restrict out, const T* __restrict bias, const ConvSizes& s) {
  const int64_t outputs_a_task =
      std::max<int64_t>((32 << 10) / std::max<int64_t>(s.out_pixels(), 1), 1);
  at::parallel_for(0, s.outputs, outputs_a_task, [&](int64_t begin, int64_t end) {
    for (int64_t o = begin; o < end; ++o) {
      for (int64_t p = 0; p < s.out_pixels(); ++p) out[o * s.out_pixels() + p] += bias[o];
    }
  });
}

// Calls task(image index, columns) for all images; on several threads when there are enough images.
template <typename T, typename Task>
void for_each_image(const ConvSizes& s, at::ScalarType type, const Task& task) {
  const auto run = [&](int64_t begin, int64_t end) {
    // Threads do not inherit the caller's state.
    const at::AutoDispatchBelowAutograd no_autograd;
    Columns<T> columns(s, type);
    for (int64_t n = begin; n < end; ++n) task(n, columns);
  };
  if (s.batch >= at::get_num_threads()) {
    at::parallel_for(0, s.batch, 1, run);
  } else {
    run(0, s.batch);
  }
}

at::Tensor conv_cpu(const at::Tensor& input, const at::Tensor& weight,
                    const std::optional<at::Tensor>& bias, at::IntArrayRef stride,
                    at::IntArrayRef padding, at::IntArrayRef dilation, int64_t groups) {
  const ConvWindow window = conv_window("conv", stride, padding, dilation, groups);
  const ConvSizes s = conv_sizes("conv", input.sizes(), weight.sizes(), window);
  check_same_type("conv", "weight", weight, "input", input);
  check_conv_bias("conv", bias, input, s);
  const at::Tensor x = input.contiguous();
  const at::Tensor w = weight.contiguous().view({s.outputs, s.depth()});
  const at::Tensor b = bias ? bias->contiguous() : at::Tensor();
  at::Tensor y = at::empty({s.batch, s.outputs, s.out_height, s.out_width}, x.options());
  const at::Tensor outs = out_matrices(y, s);
  const std::vector<at::Tensor> weights = all_group_rows(w, groups);
  run_for_cpu_type("conv", x, [&](auto zero) {
    using T = decltype(zero);
    for_each_image<T>(s, x.scalar_type(), [&](int64_t n, Columns<T>& columns) {
      const at::Tensor rows = columns.read(x, n), out = outs.select(0, n);
      for (int64_t g = 0; g < groups; ++g) {
        at::Tensor out_g = group_rows(out, g, groups);
        at::mm_out(out_g, weights[g], group_rows(rows, g, groups));
      }
      if (bias) add_bias(out.mutable_data_ptr<T>(), b.const_data_ptr<T>(), s);
    });
  });
  return y;
}

at::Tensor conv_input_grad_cpu(const at::Tensor& grad, const at::Tensor& weight, int64_t height,
                               int64_t width, at::IntArrayRef stride, at::IntArrayRef padding,
                               at::IntArrayRef dilation, int64_t groups) {
  const ConvWindow window = conv_window("conv_input_grad", stride, padding, dilation, groups);
  const ConvSizes s = conv_input_grad_sizes(grad, weight, height, width, window);
  const at::Tensor dy = grad.contiguous();
  const at::Tensor w = weight.contiguous().view({s.outputs, s.depth()});
  at::Tensor dx = at::empty({s.batch, s.channels, s.height, s.width}, dy.options());
  const at::Tensor outs = out_matrices(dy, s);
  std::vector<at::Tensor> weights = all_group_rows(w, groups);
  for (at::Tensor& weights_g : weights) weights_g = weights_g.t();
  run_for_cpu_type("conv_input_grad", dy, [&](auto zero) {
    using T = decltype(zero);
    for_each_image<T>(s, dy.scalar_type(), [&](int64_t n, Columns<T>& columns) {
      const at::Tensor out = outs.select(0, n), rows = columns.target(dx, n);
      for (int64_t g = 0; g < groups; ++g) {
        at::Tensor rows_g = group_rows(rows, g, groups);
        at::mm_out(rows_g, weights[g], group_rows(out, g, groups));
      }
      columns.write(dx, n);
    });
  });
  return dx;
}

at::Tensor conv_weight_grad_cpu(const at::Tensor& grad, const at::Tensor& input, int64_t kernel_h,
                                int64_t kernel_w, at::IntArrayRef stride, at::IntArrayRef padding,
                                at::IntArrayRef dilation, int64_t groups) {
  const ConvWindow window = conv_window("conv_weight_grad", stride, padding, dilation, groups);
  const ConvSizes s = conv_weight_grad_sizes(grad, input, kernel_h, kernel_w, window);
  const at::Tensor dy = grad.contiguous();
  const at::Tensor x = input.contiguous();
  at::Tensor dw = at::zeros({s.outputs, s.group_channels(), s.kernel_h, s.kernel_w}, dy.options());
  const at::Tensor outs = out_matrices(dy, s);
  std::vector<at::Tensor> sums = all_group_rows(dw.view({s.outputs, s.depth()}), groups);
  run_for_cpu_type("conv_weight_grad", dy, [&](auto zero) {
    using T = decltype(zero);
    Columns<T> columns(s, dy.scalar_type());
    for (int64_t n = 0; n < s.batch; ++n) {
      const at::Tensor rows = columns.read(x, n), out = outs.select(0, n);
      for (int64_t g = 0; g < groups; ++g) {
        sums[g].addmm_(group_rows(out, g, groups), group_rows(rows, g, groups).t());
      }
    }
  });
  return dw;
}

}  // namespace

TORCH_LIBRARY_IMPL(caffe_compat, CPU, m) {
  m.impl("conv", conv_cpu);
  m.impl("conv_input_grad", conv_input_grad_cpu);
  m.impl("conv_weight_grad", conv_weight_grad_cpu);
}

}  // namespace caffe_compat
