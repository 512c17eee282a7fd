// The gradients of the operators, each by operators of its own; derivative.h says in which form.
// None of them is twice differentiable.

#include <ATen/ops/threshold_backward.h>
#include <torch/library.h>

#include "autograd/derivative.h"

namespace caffe_compat {
namespace {

c10::OperatorHandle find(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "");
}

// The gradient before a ReLU from that behind it; `output` is the ReLU's, undefined for none.
at::Tensor before_relu(const at::Tensor& grad, const at::Tensor& output) {
  return output.defined() ? at::threshold_backward(grad, output, 0) : grad;
}

struct Lrn {
  static Kept keep(const Call& call) { return {{call.tensor(0)}, call.rest(1)}; }

  static variable_list gradients(const at::Tensor& grad, const Kept& kept, const Wanted&) {
    static const auto backward = find("caffe_compat::lrn_backward");
    return {call_operator(backward, {grad, kept.tensors[0]}, kept.values)};
  }
};

// Height and width of the input, then the arguments from `first` to `last`, both included.
Values input_size_and(const Call& call, std::initializer_list<size_t> arguments) {
  const at::Tensor& input = call.tensor(0);
  Values values{input.sym_size(2), input.sym_size(3)};
  for (const size_t argument : arguments) values.push_back(call.arguments[argument]);
  return values;
}

// max_pool(input, kernel, stride, padding, out_size, relu) -> (output, tap)
struct MaxPool {
  static Kept keep(const Call& call) {
    return {{call.results[1].toTensor()}, input_size_and(call, {1, 2, 3})};
  }

  static variable_list gradients(const at::Tensor& grad, const Kept& kept, const Wanted&) {
    static const auto backward = find("caffe_compat::max_pool_backward");
    return {call_operator(backward, {grad, kept.tensors[0]}, kept.values)};
  }
};

// relu_pool_lrn(input, kernel, stride, padding, out_size, relu, local_size, alpha, beta, k) ->
// (output, pooled, tap)
struct ReluPoolLrn {
  static Kept keep(const Call& call) {
    return {{call.results[1].toTensor(), call.results[2].toTensor()},
            input_size_and(call, {1, 2, 3, 6, 7, 8, 9})};
  }

  static variable_list gradients(const at::Tensor& grad, const Kept& kept, const Wanted&) {
    static const auto backward = find("caffe_compat::relu_pool_lrn_backward");
    return {call_operator(backward, {grad, kept.tensors[0], kept.tensors[1]}, kept.values)};
  }
};

// linear(input, weight, bias, relu) -> output.  Of input and weight each is kept only where the
// other's gradient is wanted: a frozen weight keeps no activations alive.
struct Linear {
  static Kept keep(const Call& call) {
    const bool relu = call.arguments[3].toBool();
    return {{call.tensor_if(call.wants(1), 0), call.tensor_if(call.wants(0), 1),
             relu ? call.results[0].toTensor() : at::Tensor()},
            {}};
  }

  static variable_list gradients(const at::Tensor& grad, const Kept& kept, const Wanted& wanted) {
    static const auto input_grad = find("caffe_compat::linear_input_grad");
    static const auto weight_grad = find("caffe_compat::linear_weight_grad");
    const at::Tensor dy = before_relu(grad, kept.tensors[2]);
    return {wanted(0) ? call_operator(input_grad, {dy, kept.tensors[1]}, {}) : at::Tensor(),
            wanted(1) ? call_operator(weight_grad, {dy, kept.tensors[0]}, {}) : at::Tensor(),
            wanted(2) ? dy.sum(0) : at::Tensor()};
  }
};

// Convolutions: (input, weight, bias, stride, padding, dilation, groups, ...) -> output.  What is
// kept beside the tensors: height and width of input and kernel, then what the operators for the
// gradients take behind their sizes.
Kept keep_of_convolution(const Call& call, bool relu, Values window) {
  const at::Tensor &input = call.tensor(0), &weight = call.tensor(1);
  Values values{input.sym_size(2), input.sym_size(3), weight.sym_size(2), weight.sym_size(3)};
  values.insert(values.end(), window.begin(), window.end());
  return {{call.tensor_if(call.wants(1), 0), call.tensor_if(call.wants(0), 1),
           relu ? call.results[0].toTensor() : at::Tensor()},
          std::move(values)};
}

variable_list gradients_of_convolution(const at::Tensor& grad, const Kept& kept,
                                       const Wanted& wanted, const c10::OperatorHandle& input_grad,
                                       const c10::OperatorHandle& weight_grad) {
  const Values& v = kept.values;
  const Values window(v.begin() + 4, v.end());
  const at::Tensor dy = before_relu(grad, kept.tensors[2]);
  variable_list gradients(3);
  if (wanted(0)) {
    gradients[0] = call_operator(input_grad, {dy, kept.tensors[1], v[0], v[1]}, window);
  }
  if (wanted(1)) {
    gradients[1] = call_operator(weight_grad, {dy, kept.tensors[0], v[2], v[3]}, window);
  }
  if (wanted(2)) gradients[2] = dy.sum({0, 2, 3});
  return gradients;
}

template <bool relu>
struct Conv {
  static Kept keep(const Call& call) { return keep_of_convolution(call, relu, call.rest(3)); }

  static variable_list gradients(const at::Tensor& grad, const Kept& kept, const Wanted& wanted) {
    static const auto input_grad = find("caffe_compat::conv_input_grad");
    static const auto weight_grad = find("caffe_compat::conv_weight_grad");
    return gradients_of_convolution(grad, kept, wanted, input_grad, weight_grad);
  }
};

// conv_fast takes relu and largest_tile behind the groups, its gradients only largest_tile.
struct ConvFast {
  static Kept keep(const Call& call) {
    Values window = call.rest(3);
    window.erase(window.end() - 2);
    return keep_of_convolution(call, call.arguments[7].toBool(), std::move(window));
  }

  static variable_list gradients(const at::Tensor& grad, const Kept& kept, const Wanted& wanted) {
    static const auto input_grad = find("caffe_compat::conv_fast_input_grad");
    static const auto weight_grad = find("caffe_compat::conv_fast_weight_grad");
    return gradients_of_convolution(grad, kept, wanted, input_grad, weight_grad);
  }
};

// Of an operator that computes a gradient: to differentiate it is an error, named by the forward
// operator.
template <class Forward>
struct Refused {
  static Kept keep(const Call&) { return {}; }

  static variable_list gradients(const at::Tensor&, const Kept&, const Wanted&) {
    TORCH_CHECK(false, Forward::kRefusal);
  }
};

struct LrnTwice {
  static constexpr const char* kRefusal =
      "lrn is not twice differentiable; use caffe_compat.ops.lrn.reference where that is needed";
};
struct PoolTwice {
  static constexpr const char* kRefusal =
      "max_pool is not twice differentiable; use torch.nn.functional.max_pool2d where that is "
      "needed";
};
struct LinearTwice {
  static constexpr const char* kRefusal =
      "linear is not twice differentiable; use torch.nn.functional.linear where that is needed";
};
struct ConvTwice {
  static constexpr const char* kRefusal =
      "conv is not twice differentiable; use torch.nn.functional.conv2d where that is needed";
};
struct ConvFastTwice {
  static constexpr const char* kRefusal =
      "fast_conv is not twice differentiable; use torch.nn.functional.conv2d where that is needed";
};

template <class Formula>
torch::CppFunction differentiable() {
  return torch::CppFunction::makeFromBoxedFunction<&autograd_kernel<Formula>>();
}

}  // namespace

TORCH_LIBRARY_IMPL(caffe_compat, Autograd, m) {
  m.impl("lrn", differentiable<Lrn>());
  m.impl("lrn_backward", differentiable<Refused<LrnTwice>>());
  m.impl("max_pool", differentiable<MaxPool>());
  m.impl("max_pool_backward", differentiable<Refused<PoolTwice>>());
  m.impl("relu_pool_lrn", differentiable<ReluPoolLrn>());
  m.impl("relu_pool_lrn_backward", differentiable<Refused<PoolTwice>>());
  m.impl("linear", differentiable<Linear>());
  m.impl("linear_input_grad", differentiable<Refused<LinearTwice>>());
  m.impl("linear_weight_grad", differentiable<Refused<LinearTwice>>());
  m.impl("conv", differentiable<Conv<false>>());
  m.impl("conv_relu", differentiable<Conv<true>>());
  m.impl("conv_input_grad", differentiable<Refused<ConvTwice>>());
  m.impl("conv_weight_grad", differentiable<Refused<ConvTwice>>());
  m.impl("conv_fast", differentiable<ConvFast>());
  m.impl("conv_fast_input_grad", differentiable<Refused<ConvFastTwice>>());
  m.impl("conv_fast_weight_grad", differentiable<Refused<ConvFastTwice>>());
}

}  // namespace caffe_compat
