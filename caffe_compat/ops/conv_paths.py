"""The ways to compute a convolution on CUDA, each with its output, input gradient and weight gradient.

A path may give its result in any layout; ``conv_choice`` picks the path and brings the result into the caller's layout.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from caffe_compat.ops.conv_window import ConvWindow
from caffe_compat.ops.tf32_split import FIRST, SECOND, tf32_split
from caffe_compat.ops.torch_conv import convolution_gradients
from caffe_compat.precision import switched


class Path(NamedTuple):
    """``output(input, weight, bias, window, relu)``, ``input_grad(grad, weight, (height, width), window)`` and
    ``weight_grad(grad, input, (kernel_h, kernel_w), window)``."""

    output: Callable[[Tensor, Tensor, Tensor | None, ConvWindow, bool], Tensor]
    input_grad: Callable[[Tensor, Tensor, tuple[int, int], ConvWindow], Tensor]
    weight_grad: Callable[[Tensor, Tensor, tuple[int, int], ConvWindow], Tensor]


def memory_format(tensor: Tensor) -> torch.memory_format:
    """The layout that a result has when it keeps that of ``tensor``."""
    if not tensor.is_contiguous() and tensor.is_contiguous(memory_format=torch.channels_last):
        return torch.channels_last
    return torch.contiguous_format


def _ours(channels_last: bool) -> Path:
    def kernels() -> Any:
        return torch.ops.caffe_compat

    return Path(
        lambda input, weight, bias, window, relu: kernels().conv_kernel(
            input, weight, bias, *window, relu, channels_last
        ),
        lambda grad, weight, size, window: kernels().conv_input_grad_kernel(
            grad, weight, *size, *window, channels_last
        ),
        lambda grad, input, kernel, window: kernels().conv_weight_grad_kernel(
            grad, input, *kernel, *window, channels_last
        ),
    )


def _torch_output(input: Tensor, weight: Tensor, bias: Tensor | None, window: ConvWindow, relu: bool) -> Tensor:
    y = functional.conv2d(input, weight, bias, *window)
    return y.relu_() if relu else y


def _torch_input_grad(grad: Tensor, weight: Tensor, size: tuple[int, int], window: ConvWindow) -> Tensor:
    shape = (grad.shape[0], weight.shape[1] * window.groups, *size)
    input = torch.empty(shape, dtype=grad.dtype, device=grad.device, memory_format=memory_format(grad))
    return convolution_gradients(grad, input, weight, window, (True, False))[0]


def _torch_weight_grad(grad: Tensor, input: Tensor, kernel: tuple[int, int], window: ConvWindow) -> Tensor:
    weight = grad.new_empty((grad.shape[1], input.shape[1] // window.groups, *kernel))
    return convolution_gradients(grad, input, weight, window, (False, True))[1]


def _split(tensor: Tensor, groups: int) -> list[Tensor]:
    """Each group's channels, dense in the layout that they had."""
    layout = memory_format(tensor)
    return [part.contiguous(memory_format=layout) for part in tensor.chunk(groups, 1)]


def _dense(window: ConvWindow) -> ConvWindow:
    """The window of one group's convolution."""
    return window._replace(groups=1)


def _split_output(input: Tensor, weight: Tensor, bias: Tensor | None, window: ConvWindow, relu: bool) -> Tensor:
    groups = window.groups
    biases = [None] * groups if bias is None else bias.chunk(groups)
    parts = zip(_split(input, groups), weight.chunk(groups), biases, strict=True)
    return torch.cat([_torch_output(x, w, b, _dense(window), relu) for x, w, b in parts], 1)


def _split_input_grad(grad: Tensor, weight: Tensor, size: tuple[int, int], window: ConvWindow) -> Tensor:
    parts = zip(_split(grad, window.groups), weight.chunk(window.groups), strict=True)
    return torch.cat([_torch_input_grad(dy, w, size, _dense(window)) for dy, w in parts], 1)


def _split_weight_grad(grad: Tensor, input: Tensor, kernel: tuple[int, int], window: ConvWindow) -> Tensor:
    parts = zip(_split(grad, window.groups), _split(input, window.groups), strict=True)
    return torch.cat([_torch_weight_grad(dy, x, kernel, _dense(window)) for dy, x in parts])


def _tf32_output(input: Tensor, weight: Tensor, bias: Tensor | None, window: ConvWindow, relu: bool) -> Tensor:
    if input.dtype != torch.float32:
        return _torch_output(input, weight, bias, window, relu)
    x, w = tf32_split(input, FIRST, 1, window.groups), tf32_split(weight, SECOND, 1)
    with switched(tf32=True):
        return _torch_output(x, w, bias, window, relu)


def _tf32_input_grad(grad: Tensor, weight: Tensor, size: tuple[int, int], window: ConvWindow) -> Tensor:
    if grad.dtype != torch.float32:
        return _torch_input_grad(grad, weight, size, window)
    dy, w = tf32_split(grad, FIRST, 1, window.groups), tf32_split(weight, SECOND, 0, window.groups)
    with switched(tf32=True):
        return _torch_input_grad(dy, w, size, window)


def _tf32_weight_grad(grad: Tensor, input: Tensor, kernel: tuple[int, int], window: ConvWindow) -> Tensor:
    if grad.dtype != torch.float32:
        return _torch_weight_grad(grad, input, kernel, window)
    dy, x = tf32_split(grad, FIRST, 0), tf32_split(input, SECOND, 0)
    with switched(tf32=True):
        return _torch_weight_grad(dy, x, kernel, window)


def _columns(image: Tensor, kernel: Any, window: ConvWindow) -> Tensor:
    """im2col of one image: (groups, channels of a group * taps, pixels)."""
    stride, padding, dilation, groups = window
    columns: Tensor = torch.ops.aten.im2col(image.unsqueeze(0), kernel, dilation, padding, stride)[0]
    return columns.reshape(groups, -1, columns.shape[1])


def _by_group(tensor: Tensor, groups: int) -> Tensor:
    """(groups * rows, ...) -> (groups, rows, everything else)."""
    return tensor.reshape(groups, tensor.shape[0] // groups, -1)


def _caffe_output(input: Tensor, weight: Tensor, bias: Tensor | None, window: ConvWindow, relu: bool) -> Tensor:
    weights, images = _by_group(weight, window.groups), []
    for image in input:
        columns = _columns(image, weight.shape[2:], window)
        images.append(torch.cat([w @ x for w, x in zip(weights, columns, strict=True)]))
    sizes = window.output_size(input.shape, weight.shape)
    y = torch.stack(images) if images else input.new_empty((0, weight.shape[0], sizes[0] * sizes[1]))
    if bias is not None:
        y += bias.unsqueeze(1)
    y = y.unflatten(2, sizes)
    output: Tensor = y.relu_() if relu else y
    return output


def _caffe_input_grad(grad: Tensor, weight: Tensor, size: tuple[int, int], window: ConvWindow) -> Tensor:
    stride, padding, dilation, groups = window
    weights, images = _by_group(weight, groups), []
    for dy in grad:
        columns = torch.cat([w.T @ y for w, y in zip(weights, _by_group(dy, groups), strict=True)])
        images.append(torch.ops.aten.col2im(columns, size, weight.shape[2:], dilation, padding, stride))
    return torch.stack(images) if images else grad.new_empty((0, weight.shape[1] * groups, *size))


def _caffe_weight_grad(grad: Tensor, input: Tensor, kernel: tuple[int, int], window: ConvWindow) -> Tensor:
    groups = window.groups
    dw = grad.new_zeros((grad.shape[1], input.shape[1] // groups, *kernel))
    weights = dw.view(groups, grad.shape[1] // groups, -1)
    for dy, image in zip(grad, input, strict=True):
        for w, y, x in zip(weights, _by_group(dy, groups), _columns(image, kernel, window), strict=True):
            w.addmm_(y, x.T)
    return dw


PATHS = {
    "ours_nchw": _ours(channels_last=False),
    "ours_nhwc": _ours(channels_last=True),
    # cuDNN on CUDA; what PyTorch takes on the CPU.
    "cudnn": Path(_torch_output, _torch_input_grad, _torch_weight_grad),
    # A dense cuDNN convolution for each group.
    "cudnn_split": Path(_split_output, _split_input_grad, _split_weight_grad),
    # float32 on tensor cores: cuDNN over two TF32 numbers for each, with an error near 1e-6.
    "split_tf32": Path(_tf32_output, _tf32_input_grad, _tf32_weight_grad),
    # Caffe's own: im2col and one matrix product for each image and group, summed over the images in their order.
    "caffe": Path(_caffe_output, _caffe_input_grad, _caffe_weight_grad),
}
