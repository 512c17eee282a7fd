"""Convolution with groups, computed as Caffe does.

N C H W in shape comments: batch, channels, height, width.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from caffe_compat import extension
from caffe_compat.ops import conv_choice
from caffe_compat.ops.conv_paths import memory_format
from caffe_compat.ops.conv_window import ConvWindow, Sizes
from caffe_compat.ops.torch_conv import torch_conv

HAS_KERNELS = extension.load() is not None
if extension.has_cuda():
    conv_choice.register()


def conv(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: Sizes = 1,
    padding: Sizes = 0,
    dilation: Sizes = 1,
    groups: int = 1,
    relu: bool = False,
) -> Tensor:
    """Cross-correlation of input with weight, plus bias; with ``relu`` max(it, 0), in the same kernel.

    input (N, C, spatial...), weight (outputs, C / groups, kernel...), bias (outputs,), all of one dtype and device:
    float32 or float64, on CUDA also float16 and bfloat16 (accumulated in float32).  The result is
    (N, outputs, spatial'...) with the sizes of ``ConvWindow.output_size``; with two spatial axes on CUDA in input's
    layout (channels_last stays channels_last), else contiguous.

    Two spatial axes on the CPU: im2col and one matrix product per image and group, Caffe's own order.  On CUDA: the
    fastest of our implicit matrix products and cuDNN, see ``conv_choice``.  With one or three axes PyTorch's
    convolution, with more, or without the extension, the plain twin.
    ValueError for shapes that do not fit, TypeError for another dtype.  Not twice differentiable with two spatial axes.
    """
    axes = weight.dim() - 2
    if axes < 1 or input.dim() != weight.dim():
        raise ValueError(
            f"conv: input is {tuple(input.shape)} and weight {tuple(weight.shape)}; expected (N, C, spatial...) and "
            "(outputs, C / groups, kernel...) with equally many axes"
        )
    window = ConvWindow.per_axis(axes, stride=stride, padding=padding, dilation=dilation, groups=groups)
    if axes == 2 and HAS_KERNELS:
        op = torch.ops.caffe_compat.conv_relu if relu else torch.ops.caffe_compat.conv
        output: Tensor = op(input, weight, bias, *window)
        return output
    if axes in (1, 3):
        y = torch_conv(input, weight, bias, window)
        return y.relu() if relu else y
    return reference(input, weight, bias, window, relu=relu)


def reference(input: Tensor, weight: Tensor, bias: Tensor | None, window: ConvWindow, *, relu: bool = False) -> Tensor:
    """``conv`` in plain PyTorch, over any number of spatial axes: windows as a view, then a matrix product."""
    axes = weight.dim() - 2
    windows = functional.pad(input, [pad for pad in reversed(window.padding) for _ in range(2)])
    for axis in range(axes):
        # Each unfold appends the window as the last axis.
        extent = window.dilation[axis] * (weight.shape[2 + axis] - 1) + 1
        windows = windows.unfold(2 + axis, extent, window.stride[axis])[..., :: window.dilation[axis]]
    batch, outputs, groups = input.shape[0], weight.shape[0], window.groups
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
    output: Tensor = result.relu() if relu else result
    return output


def _kept_layout(tensor: Tensor) -> torch.memory_format:
    """The layout of a result: that of ``tensor`` on CUDA, contiguous on the CPU."""
    return memory_format(tensor) if tensor.device.type == "cuda" else torch.contiguous_format


@extension.fake_kernel("conv_relu")
@extension.fake_kernel("conv")
def _conv_fake(input: Tensor, weight: Tensor, bias: Tensor | None, *window: Any) -> Tensor:
    sizes = ConvWindow.from_arguments(*window).output_size(input.shape, weight.shape)
    shape = (input.shape[0], weight.shape[0], *sizes)
    return torch.empty(shape, dtype=input.dtype, device=input.device, memory_format=_kept_layout(input))


@extension.plain_twin("conv")
def _conv_plain(input: Tensor, weight: Tensor, bias: Tensor | None, *window: Any) -> Tensor:
    return torch_conv(input, weight, bias, ConvWindow.from_arguments(*window))


@extension.plain_twin("conv_relu")
def _conv_relu_plain(input: Tensor, weight: Tensor, bias: Tensor | None, *window: Any) -> Tensor:
    return _conv_plain(input, weight, bias, *window).relu()


@extension.fake_kernel("conv_input_grad")
def _conv_input_grad_fake(grad: Tensor, weight: Tensor, height: int, width: int, *window: Any) -> Tensor:
    shape = (grad.shape[0], weight.shape[1] * ConvWindow.from_arguments(*window).groups, height, width)
    return torch.empty(shape, dtype=grad.dtype, device=grad.device, memory_format=_kept_layout(grad))


@extension.fake_kernel("conv_weight_grad")
def _conv_weight_grad_fake(grad: Tensor, input: Tensor, kernel_h: int, kernel_w: int, *window: Any) -> Tensor:
    groups = ConvWindow.from_arguments(*window).groups
    return grad.new_empty((grad.shape[1], input.shape[1] // groups, kernel_h, kernel_w))
