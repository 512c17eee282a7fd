"""Convolution with groups, computed as Caffe does.

N C H W in shape comments: batch, channels, height, width.
"""

from collections.abc import Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.nn import functional

from caffe_compat.ops import extension

extension.load()

Sizes = int | Sequence[int]


def conv(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Tensor:
    """Cross-correlation of input with weight, plus bias.

    input (N, C, spatial...), weight (outputs, C / groups, kernel...), bias (outputs,), all of one dtype and device:
    float32 or float64, on CUDA also float16 and bfloat16 (accumulated in float32).  The result is
    (N, outputs, spatial'...), contiguous, with spatial' = (size + 2 pad - dilation (kernel - 1) - 1) // stride + 1.

    With two spatial axes the kernels are our own (CPU: im2col and one matrix product per image and group, Caffe's own
    order; CUDA: one implicit matrix product over all groups); with one or three PyTorch's, with more the plain twin.
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
        return torch.ops.caffe_compat.conv(input, weight, bias, *window, groups)
    if axes == 1:
        return functional.conv1d(input, weight, bias, *window, groups)
    if axes == 3:
        return functional.conv3d(input, weight, bias, *window, groups)
    return _reference(input, weight, bias, *window, groups)


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
    return result if bias is None else result + bias.view(-1, *[1] * axes)


@torch.library.register_fake("caffe_compat::conv")
def _conv_fake(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Tensor:
    sizes = [
        (input.shape[2 + i] + 2 * padding[i] - dilation[i] * (weight.shape[2 + i] - 1) - 1) // stride[i] + 1
        for i in range(2)
    ]
    return input.new_empty((input.shape[0], weight.shape[0], *sizes))


@torch.library.register_fake("caffe_compat::conv_input_grad")
def _conv_input_grad_fake(
    grad: Tensor, weight: Tensor, height: int, width: int, stride: Any, padding: Any, dilation: Any, groups: int
) -> Tensor:
    return grad.new_empty((grad.shape[0], weight.shape[1] * groups, height, width))


@torch.library.register_fake("caffe_compat::conv_weight_grad")
def _conv_weight_grad_fake(
    grad: Tensor, input: Tensor, kernel_h: int, kernel_w: int, stride: Any, padding: Any, dilation: Any, groups: int
) -> Tensor:
    return grad.new_empty((grad.shape[1], input.shape[1] // groups, kernel_h, kernel_w))


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    input, weight, _, *ctx.window = inputs
    ctx.input_size, ctx.kernel = input.shape[2:], weight.shape[2:]
    # Only what the wanted gradients need: a frozen weight keeps no activations alive.
    ctx.save_for_backward(
        input if ctx.needs_input_grad[1] else None,
        weight if ctx.needs_input_grad[0] else None,
    )


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    input, weight = ctx.saved_tensors
    ops = torch.ops.caffe_compat
    return (
        ops.conv_input_grad(grad, weight, *ctx.input_size, *ctx.window) if ctx.needs_input_grad[0] else None,
        ops.conv_weight_grad(grad, input, *ctx.kernel, *ctx.window) if ctx.needs_input_grad[1] else None,
        grad.sum((0, 2, 3)) if ctx.needs_input_grad[2] else None,
        *[None] * 4,
    )


def _refuse_double_backward(ctx: Any, *grads: Tensor) -> NoReturn:
    raise RuntimeError("conv is not twice differentiable; use torch.nn.functional.conv2d where that is needed")


torch.library.register_autograd("caffe_compat::conv", _backward, setup_context=_save)
torch.library.register_autograd("caffe_compat::conv_input_grad", _refuse_double_backward)
torch.library.register_autograd("caffe_compat::conv_weight_grad", _refuse_double_backward)
