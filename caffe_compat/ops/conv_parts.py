"""Convolutions whose groups lie apart in memory, and what stands between two of them, all in channels_last.

A blob (N, C, H, W) is held as one or more *parts*: tensors (N, C / parts, H, W), each dense in channels_last, whose
channels follow each other.  A convolution with groups takes and gives one part a group, so that each is a dense
convolution, which cuDNN computes up to twice as fast as its grouped ones; ``finish`` and ``pool_chain``, which pass
over the memory anyway, bring the parts of one into those that the next one wants.  So a net needs no copy in between.

float32 is computed as ``caffe_compat.precision`` says, 16-bit parts are summed in float32; which path computes a
convolution, ``conv_choice`` says.  Nothing here is twice differentiable.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from caffe_compat.ops.conv_choice import path_of
from caffe_compat.ops.conv_window import ConvWindow
from caffe_compat.ops.parts import bias_relu_parts, bias_relu_parts_backward
from caffe_compat.ops.pool_parts import pool_parts, pool_parts_backward
from caffe_compat.ops.rounded import rounded
from caffe_compat.ops.space_to_depth import MOST_CHANNELS, depth, space_to_depth
from caffe_compat.precision import precision, switched

#: input channels of a convolution that ``first_conv`` takes, at most
MOST_FIRST_CHANNELS = 4


def conv_parts(inputs: Sequence[Tensor], weight: Tensor, window: ConvWindow) -> list[Tensor]:
    """Cross-correlation without bias: ``window.groups`` parts (N, C / groups, H, W) -> as many (N, outputs / groups,
    H', W').

    weight (outputs, C / groups, kernel_h, kernel_w), float32, of any layout; it is rounded to the parts' dtype.
    """
    return list(_ConvParts.apply(window, weight, *inputs))


def first_conv(input: Tensor, weight: Tensor, window: ConvWindow, dtype: torch.dtype) -> Tensor:
    """The strided convolution of images without bias, as one of stride 1 over blocks of stride x stride pixels.

    A block becomes the channels of one pixel, so that tensor cores, which take 8 or more channels at a time, find
    enough of them: 48 rather than 3 in CaffeNet's first layer.  The products are those of the convolution, but for
    zeros.  input (N, C, H, W) of any layout without gradient, weight (outputs, C, kernel_h, kernel_w) in float32 ->
    (N, outputs, H', W') of ``dtype`` in channels_last.
    """
    output: Tensor = _FirstConv.apply(window, dtype, weight, input)
    return output


def takes_first_conv(channels: int, window: ConvWindow) -> bool:
    """Whether ``first_conv`` computes the convolution of so many input channels."""
    (stride, other), groups = window.stride, window.groups
    whole = groups == 1 and stride == other > 1 and window.dilation == (1, 1)
    return whole and channels <= MOST_FIRST_CHANNELS and depth(channels, stride) <= MOST_CHANNELS


def finish(inputs: Sequence[Tensor], bias: Tensor | None, *, relu: bool, groups: int) -> list[Tensor]:
    """input + bias, with ``relu`` max(it, 0), in ``groups`` parts; bias (C,) in float32."""
    return list(_Finish.apply(bias, relu, groups, *inputs))


def pool_chain(
    inputs: Sequence[Tensor],
    bias: Tensor | None,
    window: Sequence[Sequence[int]],
    *,
    relu: bool,
    lrn: Mapping[str, Any] | None,
    groups: int,
) -> list[Tensor]:
    """``ops.relu_pool_lrn`` (``ops.max_pool`` without ``lrn``) of input + bias, in ``groups`` parts.

    window: kernel, stride, padding, output size; lrn: local_size, alpha, beta, k, as ``ops.pool_parts`` takes them.
    """
    names = ("kernel", "stride", "padding", "out_size")
    operation = {"relu": relu, **(lrn or {})}
    return list(_PoolChain.apply(bias, dict(zip(names, window, strict=True)), operation, groups, *inputs))


def _rounded(weight: Tensor, like: Tensor, groups: int) -> list[Tensor]:
    """Each group's weights, in the dtype of ``like`` and channels_last."""
    parts = rounded(weight, like.dtype).chunk(groups)
    return [part.contiguous(memory_format=torch.channels_last) for part in parts]


def _dense(tensor: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    return tensor.to(dtype or tensor.dtype).contiguous(memory_format=torch.channels_last)


def _output(x: Tensor, weight: Tensor, window: ConvWindow) -> Tensor:
    path = path_of("output", x, input=x.shape, weight=weight.shape, window=window)
    with switched(tf32=precision() != "fp32"):
        return _dense(path.output(x, weight, None, window, False))


def _input_grad(grad: Tensor, x: Tensor, weight: Tensor, window: ConvWindow) -> Tensor:
    path = path_of("input_grad", grad, input=x.shape, weight=weight.shape, window=window)
    with switched(tf32=precision() != "fp32"):
        return _dense(path.input_grad(grad, weight, (x.shape[2], x.shape[3]), window))


def _weight_grad(grad: Tensor, x: Tensor, weight: Tensor, window: ConvWindow) -> Tensor:
    path = path_of("weight_grad", grad, input=x.shape, weight=weight.shape, window=window)
    with switched(tf32=precision() != "fp32"):
        return path.weight_grad(grad, x, (weight.shape[2], weight.shape[3]), window)


class _ConvParts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, window: ConvWindow, weight: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
        ctx.window = dense = window._replace(groups=1)
        weights = _rounded(weight, inputs[0], len(inputs))
        ctx.like = weight
        ctx.save_for_backward(*weights, *inputs)
        return tuple(_output(x, w, dense) for x, w in zip(inputs, weights, strict=True))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        saved, count = ctx.saved_tensors, len(grads)
        parts = [(_dense(grad, x.dtype), x, w) for grad, w, x in zip(grads, saved[:count], saved[count:], strict=True)]
        weight_grad = None
        if ctx.needs_input_grad[1]:
            weight_grad = torch.empty_like(ctx.like, requires_grad=False)
            for rows, part in zip(weight_grad.chunk(count), parts, strict=True):
                rows.copy_(_weight_grad(*part, ctx.window))
        wanted = any(ctx.needs_input_grad[2:])
        input_grads = [_input_grad(*part, ctx.window) if wanted else None for part in parts]
        return None, weight_grad, *input_grads


class _FirstConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, window: ConvWindow, dtype: torch.dtype, weight: Tensor, input: Tensor) -> Tensor:
        stride = window.stride[0]
        kernel = [-(-size // stride) for size in weight.shape[2:]]
        out_size = window.output_size(input.shape, weight.shape)
        sizes = [out + taps - 1 for out, taps in zip(out_size, kernel, strict=True)]
        x = space_to_depth(input, stride, window.padding, sizes, dtype=dtype)
        blocks = space_to_depth(weight.detach(), stride, (0, 0), kernel, dtype=dtype)
        ctx.like, ctx.stride, ctx.window = weight, stride, ConvWindow((1, 1), (0, 0), (1, 1))
        ctx.save_for_backward(x, blocks)
        return _output(x, blocks, ctx.window)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, blocks = ctx.saved_tensors
        if not ctx.needs_input_grad[2]:
            return (None,) * 4
        grad = _weight_grad(_dense(grads[0], x.dtype), x, blocks, ctx.window)
        weight_grad = torch.empty_like(ctx.like, requires_grad=False)
        weight_grad.copy_(_from_blocks(grad, ctx.stride, weight_grad.shape[1:]))
        return None, None, weight_grad, None


def _from_blocks(blocks: Tensor, block: int, sizes: Sequence[int]) -> Tensor:
    """The inverse of ``space_to_depth`` without padding: (N, Q, H', W') -> (N, *sizes), a view where sizes allow."""
    channels, height, width = sizes
    x = blocks[:, : channels * block * block].unflatten(1, (channels, block, block))  # (N, C, dy, dx, H', W')
    whole: Tensor = x.permute(0, 1, 4, 2, 5, 3).flatten(4, 5).flatten(2, 3)  # (N, C, H' dy, W' dx)
    return whole[:, :, :height, :width]


class _Finish(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, bias: Tensor | None, relu: bool, groups: int, *inputs: Tensor) -> tuple[Tensor, ...]:
        outputs = bias_relu_parts(inputs, bias, relu=relu, groups=groups)
        ctx.relu, ctx.count = relu, len(inputs)
        ctx.save_for_backward(*outputs)
        return tuple(outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        outputs = list(ctx.saved_tensors)
        dense = [_dense(grad, y.dtype) for grad, y in zip(grads, outputs, strict=True)]
        input_grads, bias_grad = bias_relu_parts_backward(dense, outputs, relu=ctx.relu, groups=ctx.count)
        return bias_grad if ctx.needs_input_grad[0] else None, None, None, *input_grads


class _PoolChain(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, bias: Tensor | None, window: dict[str, Any], operation: dict[str, Any], groups: int, *inputs: Tensor
    ) -> tuple[Tensor, ...]:
        outputs, pooled, tap = pool_parts(inputs, bias, **window, **operation, groups=groups)
        norm = {name: value for name, value in operation.items() if name != "relu"}
        places = {name: value for name, value in window.items() if name != "out_size"}
        ctx.arguments = {"size": inputs[0].shape[2:], **places, **norm, "groups": len(inputs)}
        ctx.save_for_backward(pooled, tap)
        return tuple(outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        pooled, tap = ctx.saved_tensors
        input_grads, bias_grad = pool_parts_backward([_dense(grad) for grad in grads], pooled, tap, **ctx.arguments)
        return bias_grad if ctx.needs_input_grad[0] else None, None, None, None, *input_grads
