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
        stride, padding, dilation, transposed, _, groups = ctx.arguments
        window = ConvWindow(stride, padding, dilation, groups)
        weight_grad = None
        with switched(tf32=precision() != "fp32"):
            if needed[1] and not transposed and _has_inaccurate_weight_grad(weight, window):
                weight_grad = convolution_gradients(top_diffs[0], input, weight, window, (False, True))[1]
            rest = [needed[0], needed[1] and weight_grad is None, needed[2]]
            gradients = torch.ops.aten.convolution_backward(
                top_diffs[0], input, weight, ctx.bias_sizes, *ctx.arguments, rest
            )
        found = [gradients[0], gradients[1] if weight_grad is None else weight_grad, gradients[2]]
        return *(g if need else None for g, need in zip(found, needed, strict=True)), None


def convolution_gradients(
    grad: Tensor,
    input: Tensor,
    weight: Tensor,
    window: ConvWindow,
    needed: tuple[bool, bool],
) -> tuple[Tensor, Tensor]:
    """The gradients of input and weight, as far as ``needed``, under PyTorch's switches; of the other, anything.

    ``weight`` gives no more than its shape where only its own gradient is needed, ``input`` likewise.
    """
    widened = needed == (False, True) and _has_inaccurate_weight_grad(weight, window)
    if widened:
        input, weight = functional.pad(input, (0, 1)), functional.pad(weight, (0, 1))
    stride, padding, dilation, groups = window
    gradients = torch.ops.aten.convolution_backward(
        grad, input, weight, None, stride, padding, dilation, False, (0,) * len(stride), groups, [*needed, False]
    )
    return gradients[0], gradients[1][..., :-1] if widened else gradients[1]


def _has_inaccurate_weight_grad(weight: Tensor, window: ConvWindow) -> bool:
    """Whether cuDNN takes Winograd's F(9x9, 5x5) for the weight's gradient, whose error is 3e-3 of the largest value.

    It exists for kernels of 5 x 5 and stride 1 alone.  A sixth column of taps, whose gradient is thrown away, leaves
    cuDNN the accurate algorithms.
    """
    return (
        weight.is_cuda
        and weight.dtype == torch.float32
        and precision() == "fp32"
        and tuple(weight.shape[2:]) == (5, 5)
        and tuple(window.stride) == tuple(window.dilation) == (1, 1)
    )
