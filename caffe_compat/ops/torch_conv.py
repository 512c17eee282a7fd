"""PyTorch's convolutions in the precision in force, forward and backward."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from caffe_compat.ops.conv_window import ConvWindow
from caffe_compat.precision import precision, switched


def torch_conv(
    input: Tensor, weight: Tensor, bias: Tensor | None, window: ConvWindow, *, transposed: bool = False
) -> Tensor:
    """``torch.convolution`` over one to three spatial axes: input (N, C, spatial...), weight (outputs, C / groups,
    kernel...), or for ``transposed`` (C, outputs / groups, kernel...), bias (outputs,).

    On CUDA float32 products are TF32 only where ``caffe_compat.precision`` says so, in the gradients, too, whose passes
    run later: PyTorch alone would take TF32 there by default.  Errors are PyTorch's.
    """
    if input.is_cuda and input.dtype == torch.float32 and _switches_count():
        arguments = (
            window.stride,
            window.padding,
            window.dilation,
            transposed,
            (0,) * len(window.stride),
            window.groups,
        )
        output: Tensor = Convolution.apply(input, weight, bias, arguments)
        return output
    stride, padding, dilation, groups = window
    function = (_TRANSPOSED if transposed else _PLAIN)[len(stride)]
    return function(input, weight, bias, stride, padding, groups=groups, dilation=dilation)


_PLAIN = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
_TRANSPOSED = {1: functional.conv_transpose1d, 2: functional.conv_transpose2d, 3: functional.conv_transpose3d}


def _switches_count() -> bool:
    # Autocast chooses another type, and torch.compile cannot look into the switches.
    return not (torch.is_autocast_enabled("cuda") or torch.compiler.is_compiling())


class Convolution(torch.autograd.Function):
    """PyTorch's own forward and backward, each with the switches set around it."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor, bias: Tensor | None, arguments: tuple[Any, ...]) -> Tensor:
        """``arguments``: what ``torch.convolution`` takes behind the bias."""
        ctx.arguments = arguments
        ctx.bias_sizes = None if bias is None else list(bias.shape)
        ctx.save_for_backward(input, weight)
        with switched(tf32=precision() != "fp32"):
            return torch.convolution(input, weight, bias, *arguments)

    @staticmethod
    def backward(ctx: Any, *top_diffs: Tensor) -> tuple[Tensor | None, ...]:
        input, weight = ctx.saved_tensors
        needed = [bool(need) for need in ctx.needs_input_grad[:3]]
        with switched(tf32=precision() != "fp32"):
            gradients = torch.ops.aten.convolution_backward(
                top_diffs[0], input, weight, ctx.bias_sizes, *ctx.arguments, needed
            )
        return *(g if need else None for g, need in zip(gradients, needed, strict=True)), None
