"""float32 numbers as sums of two that TF32 holds: with three products, tensor cores compute as accurately as float32.

a = high + low with high = a rounded to TF32 (10 bits behind the leading one) and low = a - high, of which TF32 keeps
the leading 11 bits.  ab = high high' + low high' + high low', and what is left out is below 2^-21 of it.  Source: the
scheme of 3xTF32 products in NVIDIA's CUTLASS (examples/27_ampere_3xtf32_fast_accurate_tensorop_gemm).

A product of sums becomes one of arrays three times as long: ``tf32_split(a, FIRST)`` times ``tf32_split(b, SECOND)``.
"""

import torch
from torch import Tensor

from caffe_compat import extension

HAS_KERNELS = extension.load() is not None

FIRST, SECOND = "hlh", "hhl"
LOW_BITS = 13  # the bits of a float32 that TF32 does not have


def tf32_split(input: Tensor, order: str, axis: int, groups: int = 1) -> Tensor:
    """High and low parts one behind the other along ``axis``, as the letters ``h`` and ``l`` of ``order`` say.

    input (N, C, H, W), float32 -> channels_last, with ``axis`` (0 or 1) three times as long; with ``groups`` the three
    parts of each piece of the axis follow each other.  Rounded to nearest, ties away from zero; the low part of an
    infinity is NaN.  ValueError for another dtype, rank, axis or length of ``order``.  Not differentiable.
    """
    if not HAS_KERNELS:
        return reference(input, order, axis, groups)
    output: Tensor = torch.ops.caffe_compat.tf32_split(input, order, axis, groups)
    return output


@extension.cpu_kernel("tf32_split")
def reference(input: Tensor, order: str, axis: int, groups: int) -> Tensor:
    """``tf32_split`` in plain PyTorch."""
    if input.dtype != torch.float32 or input.dim() != 4 or len(order) != 3 or axis not in (0, 1):
        raise ValueError(
            f"tf32_split: input is {input.dtype} {tuple(input.shape)}, order {order!r}, axis {axis}; expected float32, "
            "4 axes, three letters and axis 0 or 1"
        )
    # Half of the last bit kept is added, which rounds to nearest.
    high = ((input.view(torch.int32) + (1 << (LOW_BITS - 1))) & -(1 << LOW_BITS)).view(torch.float32)
    parts = {"h": high.chunk(groups, axis), "l": (input - high).chunk(groups, axis)}
    pieces = [parts[letter][group] for group in range(groups) for letter in order]
    return torch.cat(pieces, axis).contiguous(memory_format=torch.channels_last)


@extension.fake_kernel("tf32_split")
def _fake(input: Tensor, order: str, axis: int, groups: int) -> Tensor:
    sizes = list(input.shape)
    sizes[axis] *= len(order)
    return torch.empty(sizes, dtype=input.dtype, device=input.device, memory_format=torch.channels_last)
