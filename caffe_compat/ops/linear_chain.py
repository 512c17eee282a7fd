"""InnerProduct, ReLU and Dropout on CUDA in one: as few passes over the tops as their kernels allow.

M K N in shape comments: batch, inputs, outputs.  Passes over (M, N), each a read and a write, beside the products:

    forward    bias and ReLU in the product's own epilogue; 1 of dropout
    backward   1 for dropout, ReLU and the bias's gradient together (each by itself: 3)
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from caffe_compat.ops.parts import bias_relu_parts_backward
from caffe_compat.ops.rounded import rounded


def linear_chain(
    input: Tensor, weight: Tensor, bias: Tensor | None, *, dtype: torch.dtype, relu: bool = False, dropout: float = 0.0
) -> Tensor:
    """``input weight^T + bias``; with ``relu`` max(it, 0); of that the share ``dropout`` zeroed, the rest scaled up.

    input (M, K), weight (N, K), bias (N,), float32 -> (M, N) in ``dtype``: float32, float16 or bfloat16.  Products are
    of numbers rounded to ``dtype`` and summed in float32.  The gradients of weight and bias are those sums, never
    rounded to ``dtype``.  Masks are those of torch.nn.functional.dropout on CUDA (``torch.native_dropout``).  Not twice
    differentiable.
    """
    output: Tensor = _LinearChain.apply(input, weight, bias, (dtype, relu, dropout))
    return output


class _LinearChain(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, input: Tensor, weight: Tensor, bias: Tensor | None, operation: tuple[torch.dtype, bool, float]
    ) -> Tensor:
        dtype, relu, dropout = operation
        x, w = input.to(dtype), rounded(weight, dtype)
        b = None if bias is None else rounded(bias, dtype)
        if relu and b is not None:
            top = torch._addmm_activation(b, x, w.t())  # noqa: SLF001 - the product with ReLU has no public name
        else:
            top = functional.linear(x, w, b)
            top = top.relu() if relu else top
        mask = None
        if dropout:
            top, mask = torch.native_dropout(top, dropout, True)
        ctx.relu, ctx.scale, ctx.input_dtype = relu, 1 / (1 - dropout), input.dtype
        needs_input, needs_weight = ctx.needs_input_grad[:2]
        # What ReLU and dropout let through is positive behind both.
        ctx.save_for_backward(
            x if needs_weight else None, w if needs_input else None, top if relu else None, None if relu else mask
        )
        return top

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, w, top, mask = ctx.saved_tensors
        needs_input, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        grad = grads[0].contiguous()
        if mask is not None:
            grad = torch.ops.aten.native_dropout_backward(grad, mask, ctx.scale)
        bias_grad = None
        if top is not None:
            pixels = [[t[:, :, None, None]] for t in (grad, top)]
            (part,), bias_grad = bias_relu_parts_backward(*pixels, scale=ctx.scale)
            grad = part.flatten(1)
        elif needs_bias:
            bias_grad = grad.sum(0, dtype=torch.float32)
        return (
            (grad @ w).to(ctx.input_dtype) if needs_input else None,
            _wide_product(grad.t(), x) if needs_weight else None,
            bias_grad if needs_bias else None,
            None,
        )


def _wide_product(a: Tensor, b: Tensor) -> Tensor:
    """a b in float32; 16-bit factors are not widened where the product itself can give that."""
    if a.dtype == torch.float32:
        return a @ b
    if a.device.type == "cpu":
        return a.float() @ b.float()
    return torch.mm(a, b, out_dtype=torch.float32)
