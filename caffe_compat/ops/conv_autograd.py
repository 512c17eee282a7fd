"""The gradients of a convolution, for both operators that compute one: ``conv`` and ``fast_conv``.

Each brings its own operators for the gradients of input and weight; what the forward pass keeps for them, and how a
ReLU behind the convolution is undone, is the same.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def save_operands(ctx: Any, inputs: tuple[Any, ...], output: Tensor | None = None) -> None:
    """Keep what the backward pass needs: of input and weight only what the wanted gradients take.

    So a frozen weight keeps no activations alive.  ``inputs``: input, weight, bias, and what the operators for the
    gradients take behind their sizes.  ``output``: where a ReLU follows in the same operator.
    """
    input, weight, _, *ctx.arguments = inputs
    ctx.input_size, ctx.kernel = input.shape[2:], weight.shape[2:]
    ctx.has_relu = output is not None
    ctx.save_for_backward(
        input if ctx.needs_input_grad[1] else None, weight if ctx.needs_input_grad[0] else None, output
    )


def gradients(
    ctx: Any, grad: Tensor, input_grad: Callable[..., Tensor], weight_grad: Callable[..., Tensor]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Of input, weight and bias, as far as they are wanted, by these two operators."""
    input, weight, output = ctx.saved_tensors
    if ctx.has_relu:
        grad = torch.ops.aten.threshold_backward(grad, output, 0)
    return (
        input_grad(grad, weight, *ctx.input_size, *ctx.arguments) if ctx.needs_input_grad[0] else None,
        weight_grad(grad, input, *ctx.kernel, *ctx.arguments) if ctx.needs_input_grad[1] else None,
        grad.sum((0, 2, 3)) if ctx.needs_input_grad[2] else None,
    )
