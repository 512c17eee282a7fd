"""Operators on channels in parts: what lies between convolutions whose groups lie apart in memory.

A list of 1 to 4 tensors (N, C / parts, H, W), each dense channels_last, whose channels follow each other, stands for
one tensor (N, C, H, W).  A convolution in groups is then one convolution for each part, with nothing to copy before or
behind it.  Every operator takes any number of parts and makes ``groups`` of them.

N C H W in shape comments: batch, channels, height, width.  None of these is differentiable by itself: each gradient is
an operator of its own.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from caffe_compat import extension

HAS_KERNELS = extension.load() is not None

MOST_PARTS = 4
CUDA_DTYPES = (torch.float32, torch.float16, torch.bfloat16)

Parts = Sequence[Tensor]


def bias_relu_parts(input: Parts, bias: Tensor | None = None, *, relu: bool = True, groups: int = 1) -> list[Tensor]:
    """``input + bias``, then with ``relu`` max(., 0), in ``groups`` parts; without either, a copy in other parts.

    input: parts (N, C / parts, H, W), float32, float16 or bfloat16, on the CPU also float64; dense channels_last parts
    are taken as they are.  bias (C,), float32 or the input's dtype.  The sum is rounded to the input's dtype, as the
    output of a convolution with a bias is; NaN is passed on.  On CUDA, channels of a part (of either side) that are a
    multiple of 8 (float32: 4) go at the memory's speed, others about as many times slower.  ValueError for parts of
    different shapes or dtypes, more than 4 of them, ``groups`` that do not divide C, or a bias of another size.
    """
    channels = check_parts("bias_relu_parts", "input", input, groups)
    if bias is not None and bias.shape != (channels,):
        raise ValueError(f"bias_relu_parts: bias is {tuple(bias.shape)}; expected ({channels},)")
    if not HAS_KERNELS:
        return bias_relu_reference(input, bias, relu, groups)
    output: list[Tensor] = torch.ops.caffe_compat.bias_relu_parts(list(input), bias, relu, groups)
    return output


def bias_relu_parts_backward(
    grad: Parts, output: Parts, *, relu: bool = True, groups: int = 1, scale: float = 1.0
) -> tuple[list[Tensor], Tensor]:
    """The gradients of ``bias_relu_parts``: the input's in ``groups`` parts, and the bias's (C,).

    grad and output: parts of the same whole shape and dtype, in any strides.  The input's gradient is grad times
    ``scale`` where output > 0 (everywhere without ``relu``, when output is not read); the bias's is its sum over N, H,
    W, in float32 (float64 for float64), the same bits in every run.  Errors as ``bias_relu_parts``.
    """
    channels = check_parts("bias_relu_parts_backward", "grad", grad, groups)
    if check_parts("bias_relu_parts_backward", "output", output, groups) != channels:
        raise ValueError(f"bias_relu_parts_backward: output has other channels than the {channels} of grad")
    if not HAS_KERNELS:
        return bias_relu_backward_reference(grad, output, relu, groups, scale)
    result: tuple[list[Tensor], Tensor] = torch.ops.caffe_compat.bias_relu_parts_backward(
        list(grad), list(output), relu, groups, scale
    )
    return result


def check_parts(operator: str, name: str, parts: Parts, groups: int) -> int:
    """The channels of all parts together; ValueError for what no operator here takes."""
    if not 1 <= len(parts) <= MOST_PARTS:
        raise ValueError(f"{operator}: {name} has {len(parts)} parts; expected 1 to {MOST_PARTS}")
    if parts[0].dim() != 4:
        raise ValueError(f"{operator}: {name} has {parts[0].dim()} axes; expected 4")
    for part in parts[1:]:
        if part.shape != parts[0].shape or part.dtype != parts[0].dtype:
            raise ValueError(
                f"{operator}: {name} has parts {part.dtype} {tuple(part.shape)} and {parts[0].dtype} "
                f"{tuple(parts[0].shape)}; expected the same dtype and shape"
            )
    channels = len(parts) * parts[0].shape[1]
    if not 1 <= groups <= MOST_PARTS or channels % groups:
        raise ValueError(
            f"{operator}: groups is {groups} for {channels} channels; expected 1 to {MOST_PARTS}, a divisor of them"
        )
    return channels


def join(parts: Parts) -> Tensor:
    """The one tensor that the parts stand for."""
    return torch.cat(list(parts), 1)


def split(whole: Tensor, groups: int) -> list[Tensor]:
    """A tensor (N, C, H, W) in ``groups`` parts, each a new one, dense channels_last."""
    return [part.clone(memory_format=torch.channels_last) for part in whole.tensor_split(groups, 1)]


def wide_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype to compute and sum in."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def add_bias(whole: Tensor, bias: Tensor | None) -> Tensor:
    """``whole + bias`` for each channel, rounded once."""
    if bias is None:
        return whole
    wide = wide_dtype(whole.dtype)
    return (whole.to(wide) + bias.to(wide)[:, None, None]).to(whole.dtype)


@extension.cpu_kernel("bias_relu_parts")
def bias_relu_reference(input: Parts, bias: Tensor | None, relu: bool, groups: int) -> list[Tensor]:
    """``bias_relu_parts`` in plain PyTorch."""
    whole = add_bias(join(input), bias)
    return split(torch.relu(whole) if relu else whole, groups)


@extension.cpu_kernel("bias_relu_parts_backward")
def bias_relu_backward_reference(
    grad: Parts, output: Parts, relu: bool, groups: int, scale: float = 1.0
) -> tuple[list[Tensor], Tensor]:
    """``bias_relu_parts_backward`` in plain PyTorch."""
    dtype = grad[0].dtype
    whole = join(grad).to(wide_dtype(dtype)) * scale
    if relu:
        whole = torch.where(join(output) > 0, whole, 0)
    return split(whole.to(dtype), groups), whole.sum((0, 2, 3))


def empty_parts(like: Tensor, shape: Sequence[int], groups: int) -> list[Tensor]:
    """``groups`` uninitialised parts of a whole (N, C, H, W), with the dtype and device of ``like``."""
    n, c, h, w = shape
    return [
        torch.empty((n, c // groups, h, w), dtype=like.dtype, device=like.device, memory_format=torch.channels_last)
        for _ in range(groups)
    ]


def whole_shape(parts: Parts) -> tuple[int, int, int, int]:
    n, c, h, w = parts[0].shape
    return n, c * len(parts), h, w


@extension.fake_kernel("bias_relu_parts")
def _bias_relu_fake(input: Parts, bias: Tensor | None, relu: bool, groups: int) -> list[Tensor]:
    return empty_parts(input[0], whole_shape(input), groups)


@extension.fake_kernel("bias_relu_parts_backward")
def _bias_relu_backward_fake(
    grad: Parts, output: Parts, relu: bool, groups: int, scale: float = 1.0
) -> tuple[list[Tensor], Tensor]:
    shape = whole_shape(grad)
    sums = grad[0].new_empty((shape[1],), dtype=wide_dtype(grad[0].dtype))
    return empty_parts(grad[0], shape, groups), sums
