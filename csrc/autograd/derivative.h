// How an operator becomes differentiable: a kernel for the dispatcher's Autograd key that calls the
// operator below that key and records, in a torch::autograd::Function, how to undo it.
//
// What belongs to one operator is its formula, a struct with two functions (formulas.cpp has them):
//
//   static Kept keep(const Call& call);
//       What the backward pass needs of a call's arguments and results.
//   static variable_list gradients(const at::Tensor& grad, const Kept& kept, const Wanted& wanted);
//       The gradients of the tensor arguments from that of the first result; those that are not
//       wanted stay undefined.
//
// The first result is the differentiable one.  The kernel is boxed, as calls from Python are: the
// arguments go on to the operator as they came, without being turned into C++ values and back.
#pragma once

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/grad_mode.h>
#include <ATen/core/stack.h>
#include <torch/csrc/autograd/custom_function.h>

#include <initializer_list>
#include <optional>
#include <utility>
#include <vector>

namespace caffe_compat {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using torch::jit::Stack;
using Values = std::vector<c10::IValue>;

// One call of an operator.
struct Call {
  const Values& arguments;
  const c10::IValue* results;

  const at::Tensor& tensor(size_t argument) const { return arguments[argument].toTensor(); }
  // Whether an argument is a tensor whose gradient somebody will want.
  bool wants(size_t argument) const {
    return arguments[argument].isTensor() && tensor(argument).requires_grad();
  }
  // An argument that another one's gradient needs, or nothing, so that it need not be kept alive.
  at::Tensor tensor_if(bool needed, size_t argument) const {
    return needed ? tensor(argument) : at::Tensor();
  }
  // The arguments from `first` on.
  Values rest(size_t first) const { return {arguments.begin() + first, arguments.end()}; }
};

// What a backward pass needs.
struct Kept {
  variable_list tensors;
  Values values;
};

// Asks which of the tensor arguments need their gradients.
struct Wanted {
  const AutogradContext& context;
  size_t inputs;

  bool operator()(size_t input) const { return input < inputs && context.needs_input_grad(input); }
};

// Calls an operator with `first` and then `rest`; returns its first result.
inline at::Tensor call_operator(const c10::OperatorHandle& op,
                                std::initializer_list<c10::IValue> first, const Values& rest) {
  Stack stack;
  stack.reserve(first.size() + rest.size());
  stack.insert(stack.end(), first.begin(), first.end());
  stack.insert(stack.end(), rest.begin(), rest.end());
  op.callBoxed(stack);
  return stack.front().toTensor();
}

template <class Formula>
struct Derivative : torch::autograd::Function<Derivative<Formula>> {
  static constexpr bool is_traceable = true;  // by compiled autograd
  static constexpr const char* kValues = "values";
  static constexpr const char* kInputs = "inputs";

  // `inputs` are the tensors among the arguments on the stack; leaves the results there.
  static at::Tensor forward(AutogradContext* context, at::TensorList inputs,
                            const c10::OperatorHandle& op, c10::DispatchKeySet keys, Stack* stack) {
    const Values arguments(stack->end() - op.schema().arguments().size(), stack->end());
    {
      const at::AutoDispatchBelowAutograd below;
      op.redispatchBoxed(keys & c10::after_autograd_keyset, stack);
    }
    const c10::IValue* results = &*(stack->end() - op.schema().returns().size());
    Kept kept = Formula::keep(Call{arguments, results});
    context->save_for_backward(std::move(kept.tensors));
    c10::List<c10::IValue> values(c10::AnyType::get());
    for (c10::IValue& value : kept.values) values.push_back(std::move(value));
    context->saved_data[kValues] = std::move(values);
    context->saved_data[kInputs] = static_cast<int64_t>(inputs.size());
    context->set_materialize_grads(false);
    return results->toTensor();
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    const size_t inputs = context->saved_data[kInputs].toInt();
    variable_list gradients;
    if (grads[0].defined()) {
      // Unless asked to record (create_graph), straight to the kernels: four dispatches less.
      std::optional<at::AutoDispatchBelowAutograd> below;
      if (!at::GradMode::is_enabled()) below.emplace();
      const Kept kept{context->get_saved_variables(),
                      context->saved_data[kValues].toListRef().vec()};
      gradients = Formula::gradients(grads[0], kept, Wanted{*context, inputs});
    }
    gradients.resize(inputs + kOthers);
    return gradients;
  }

 private:
  static constexpr size_t kOthers = 3;  // arguments of forward that are no tensors
};

// The operator's kernel for the Autograd key.
template <class Formula>
void autograd_kernel(const c10::OperatorHandle& op, c10::DispatchKeySet keys, Stack* stack) {
  variable_list inputs;
  bool wanted = false, has_tangent = false;
  for (const c10::IValue& value : torch::jit::last(*stack, op.schema().arguments().size())) {
    if (!value.isTensor() || !value.toTensor().defined()) continue;
    const at::Tensor& tensor = value.toTensor();
    wanted = wanted || tensor.requires_grad();
    has_tangent = has_tangent || tensor._fw_grad(/*level=*/0).defined();
    inputs.push_back(tensor);
  }
  // Function::apply refuses a tangent of forward-mode differentiation in PyTorch's own words.
  if (!(wanted && at::GradMode::is_enabled()) && !has_tangent) {
    const at::AutoDispatchBelowAutograd below;
    op.redispatchBoxed(keys & c10::after_autograd_keyset, stack);
    return;
  }
  at::Tensor first = Derivative<Formula>::apply(at::TensorList(inputs), op, keys, stack);
  (*stack)[stack->size() - op.schema().returns().size()] = std::move(first);
}

}  // namespace caffe_compat
