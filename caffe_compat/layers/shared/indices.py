"""Bottoms that hold whole numbers (labels, rows to look up) as floating point."""

import torch
from torch import Tensor

from caffe_compat.layers.base import Layer


def to_indices(layer: Layer, values: Tensor, size: int, what: str) -> Tensor:
    """``values`` as int64, rounded towards zero like a C cast.

    Raises NetError when one is outside [0, size).  Only on the CPU and outside a compiled graph:
    elsewhere a look at the values would stop the device, and PyTorch's own check must do.
    """
    indices = values.detach().long()
    if values.device.type == "cpu" and not torch.compiler.is_compiling() and indices.numel():
        low, high = int(indices.min()), int(indices.max())
        if low < 0 or high >= size:
            layer.fail(f"{what} {low if low < 0 else high} is out of range; expected 0 to {size - 1}")
    return indices
