"""Local response normalisation with Caffe's formulas (Krizhevsky et al., NIPS 2012, section 3.3).

N C H W in shape comments: batch, channels, height, width.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from caffe_compat import extension

HAS_KERNELS = extension.load() is not None

NORM_REGIONS = ("ACROSS_CHANNELS", "WITHIN_CHANNEL")


def lrn(
    input: Tensor,
    local_size: int = 5,
    alpha: float = 1.0,
    beta: float = 0.75,
    k: float = 1.0,
    *,
    norm_region: str = "ACROSS_CHANNELS",
) -> Tensor:
    """y = x * scale^-beta, with scale from the squares in a window around each element.

    ACROSS_CHANNELS: scale = k + alpha / local_size * (sum over local_size channels).
    WITHIN_CHANNEL: scale = 1 + alpha / local_size^2 * (sum over local_size x local_size pixels); k is not used.
    Elements outside the array count as zero.  Source: Caffe's LRN layer.  PyTorch has ACROSS_CHANNELS only, and slower.

    input (N, C, H, W), float32 or float64, on CUDA also float16 and bfloat16 (computed in float32); contiguous and
    channels_last are taken as they are, and the result has the same layout.  ValueError for an even ``local_size``,
    another ``norm_region`` or a wrong number of axes, TypeError for another dtype.  Not twice differentiable.
    """
    if norm_region not in NORM_REGIONS:
        raise ValueError(f"lrn: norm_region is {norm_region!r}; expected one of {', '.join(NORM_REGIONS)}")
    if not HAS_KERNELS:
        return reference(input, local_size, alpha=alpha, beta=beta, k=k, norm_region=norm_region)
    output: Tensor = torch.ops.caffe_compat.lrn(input, local_size, alpha, beta, k, norm_region == "WITHIN_CHANNEL")
    return output


def reference(
    input: Tensor,
    local_size: int = 5,
    alpha: float = 1.0,
    beta: float = 0.75,
    k: float = 1.0,
    *,
    norm_region: str = "ACROSS_CHANNELS",
) -> Tensor:
    """``lrn`` in plain PyTorch: slow, obvious, differentiable as often as wanted."""
    reach = (local_size - 1) // 2
    square = input * input
    if norm_region == "WITHIN_CHANNEL":
        padded = functional.pad(square, (reach, reach, reach, reach))
        window = padded.unfold(2, local_size, 1).unfold(3, local_size, 1)  # (N, C, H, W, size, size)
        return input * (1 + alpha * window.mean((-2, -1))) ** -beta
    padded = functional.pad(square, (0, 0, 0, 0, reach, reach))
    window = padded.unfold(1, local_size, 1)  # (N, C, H, W, size)
    return input * (k + alpha * window.mean(-1)) ** -beta


def _like_input(input: Tensor) -> Tensor:
    channels_last = not input.is_contiguous() and input.is_contiguous(memory_format=torch.channels_last)
    return torch.empty_like(input, memory_format=torch.channels_last if channels_last else torch.contiguous_format)


@extension.fake_kernel("lrn")
def _lrn_fake(input: Tensor, *norm: Any) -> Tensor:
    return _like_input(input)


@extension.fake_kernel("lrn_backward")
def _lrn_backward_fake(grad: Tensor, input: Tensor, *norm: Any) -> Tensor:
    return _like_input(input)


@extension.plain_twin("lrn")
def _lrn_plain(input: Tensor, *norm: Any) -> Tensor:
    *window, within_channel = norm
    return reference(input, *window, norm_region=NORM_REGIONS[within_channel])
