"""Convolution with groups, computed as Caffe does.

N C H W in shape comments: batch, channels, height, width.
"""

from collections.abc import Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.nn import functional

from caffe_compat import extension
from caffe_compat.ops import conv_choice
from caffe_compat.ops.conv_paths import memory_format

extension.load()
if extension.has_cuda():
    conv_choice.register()

Sizes = int | Sequence[int]


def conv(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes = 0,
    dilation: Sizes = 1,
    groups: int = 1,
    relu: bool = False,
) -> Tensor:
    """Cross-correlation of input with weight, plus bias; with ``relu`` cut at zero in the same kernel.

    input (N, C, spatial...), weight (outputs, C / groups, kernel...), bias (outputs,), all of one dtype and device:
    float32 or float64, on CUDA also float16 and bfloat16 (accumulated in float32).  The result is
    (N, outputs, spatial'...) with spatial' = (size + 2 pad - dilation (kernel - 1) - 1) // stride + 1; with two spatial
    axes on CUDA in input's layout (channels_last stays channels_last), else contiguous.

    Two spatial axes on the CPU: im2col and one matrix product per image and group, Caffe's own order.  On CUDA: the
    fastest of our implicit matrix products and cuDNN, see ``conv_choice``.  With one or three axes PyTorch's
    convolution, with more the plain twin.
    ValueError for shapes that do not fit, TypeError for another dtype.  Not twice differentiable with two spatial axes.
    """
    axes = weight.dim() - 2
    if axes < 1 or input.dim() != weight.dim():
        raise ValueError(
            f"conv: input is {tuple(input.shape)} and weight {tuple(weight.shape)}; expected (N, C, spatial...) and "
            "(outputs, C / groups, kernel...) with equally many axes"
        )
    window = (
        _per_axis("stride", stride, axes),
        _per_axis("padding", padding, axes),
        _per_axis("dilation", dilation, axes),
    )
    if axes == 2:
        op = torch.ops.caffe_compat.conv_relu if relu else torch.ops.caffe_compat.conv
        return op(input, weight, bias, *window, groups)
    function = {1: functional.conv1d, 3: functional.conv3d}.get(axes, _reference)
    y = function(input, weight, bias, *window, groups)
    return y.relu() if relu else y


def _per_axis(name: str, value: Sizes, axes: int) -> list[int]:
    """One number for each spatial axis."""
    values = [value] * axes if isinstance(value, int) else list(value)
    if len(values) != axes:
        raise ValueError(f"conv: {name} is {value}; expected one number, or {axes}")
    return values


def _reference(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes = 0,
    dilation: Sizes = 1,
    groups: int = 1,
    relu: bool = False,
) -> Tensor:
    """``conv`` in plain PyTorch, over any number of spatial axes: windows as a view, then a matrix product."""
    axes = weight.dim() - 2
    strides, pads, dilations = (_per_axis("size", value, axes) for value in (stride, padding, dilation))
    windows = functional.pad(input, [pad for pad in reversed(pads) for _ in range(2)])
    for axis in range(axes):
        # Each unfold appends the window as the last axis.
        extent = dilations[axis] * (weight.shape[2 + axis] - 1) + 1
        windows = windows.unfold(2 + axis, extent, strides[axis])[..., :: dilations[axis]]
    batch, outputs = input.shape[0], weight.shape[0]
    sizes = windows.shape[2 : 2 + axes]
    # (N, C, out..., kernel...) -> (N, groups, C / groups, out..., kernel...) -> (N, groups, C / groups * taps, pixels)
    windows = windows.unflatten(1, (groups, -1))
    order = [0, 1, 2, *range(3 + axes, 3 + 2 * axes), *range(3, 3 + axes)]
    depth, pixels = weight[0].numel(), sizes.numel()
    columns = windows.permute(order).reshape(batch, groups, depth, pixels)
    result = weight.reshape(groups, outputs // groups, depth) @ columns  # (N, groups, outputs / groups, pixels)
    result = result.reshape(batch, outputs, *sizes)
    if bias is not None:
        result = result + bias.view(-1, *[1] * axes)
    return result.relu() if relu else result


def _kept_layout(tensor: Tensor) -> torch.memory_format:
    """The layout of a result: that of ``tensor`` on CUDA, contiguous on the CPU."""
    return memory_format(tensor) if tensor.device.type == "cuda" else torch.contiguous_format


@torch.library.register_fake("caffe_compat::conv_relu")
@torch.library.register_fake("caffe_compat::conv")
def _conv_fake(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
) -> Tensor:
    sizes = conv_choice.output_size(input.shape, weight.shape, (stride, padding, dilation, groups))
    shape = (input.shape[0], weight.shape[0], *sizes)
    return torch.empty(shape, dtype=input.dtype, device=input.device, memory_format=_kept_layout(input))


@torch.library.register_fake("caffe_compat::conv_input_grad")
def _conv_input_grad_fake(
    grad: Tensor, weight: Tensor, height: int, width: int, stride: Any, padding: Any, dilation: Any, groups: int
) -> Tensor:
    shape = (grad.shape[0], weight.shape[1] * groups, height, width)
    return torch.empty(shape, dtype=grad.dtype, device=grad.device, memory_format=_kept_layout(grad))


@torch.library.register_fake("caffe_compat::conv_weight_grad")
def _conv_weight_grad_fake(
    grad: Tensor, input: Tensor, kernel_h: int, kernel_w: int, stride: Any, padding: Any, dilation: Any, groups: int
) -> Tensor:
    return grad.new_empty((grad.shape[1], input.shape[1] // groups, kernel_h, kernel_w))


def _needed(ctx: Any, inputs: tuple[Any, ...]) -> tuple[Tensor | None, Tensor | None]:
    """Input and weight as far as the wanted gradients need them: a frozen weight keeps no activations alive."""
    input, weight, _, *ctx.window = inputs
    ctx.input_size, ctx.kernel = input.shape[2:], weight.shape[2:]
    return input if ctx.needs_input_grad[1] else None, weight if ctx.needs_input_grad[0] else None


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*_needed(ctx, inputs))


def _save_with_output(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*_needed(ctx, inputs), output)


def _gradients(ctx: Any, grad: Tensor, input_grad: Any, weight_grad: Any) -> tuple[Tensor | None, ...]:
    """Of input, weight and bias, as far as they are wanted, by these two operators."""
    input, weight, *output = ctx.saved_tensors
    if output:  # the ReLU behind it
        grad = torch.ops.aten.threshold_backward(grad, output[0], 0)
    return (
        input_grad(grad, weight, *ctx.input_size, *ctx.window) if ctx.needs_input_grad[0] else None,
        weight_grad(grad, input, *ctx.kernel, *ctx.window) if ctx.needs_input_grad[1] else None,
        grad.sum((0, 2, 3)) if ctx.needs_input_grad[2] else None,
    )


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    ops = torch.ops.caffe_compat
    return *_gradients(ctx, grad, ops.conv_input_grad, ops.conv_weight_grad), *[None] * 4


def _refuse_double_backward(ctx: Any, *grads: Tensor) -> NoReturn:
    raise RuntimeError("conv is not twice differentiable; use torch.nn.functional.conv2d where that is needed")


torch.library.register_autograd("caffe_compat::conv", _backward, setup_context=_save)
torch.library.register_autograd("caffe_compat::conv_relu", _backward, setup_context=_save_with_output)
torch.library.register_autograd("caffe_compat::conv_input_grad", _refuse_double_backward)
torch.library.register_autograd("caffe_compat::conv_weight_grad", _refuse_double_backward)
