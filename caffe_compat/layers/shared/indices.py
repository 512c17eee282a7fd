"""Bottoms that hold whole numbers (labels, rows to look up) as floating point."""

import torch
from torch import Tensor

from caffe_compat.layers.base import Layer

_CURES = {"label": "correct the labels, or give the layer that makes the scores an output for each class"}


def to_indices(layer: Layer, values: Tensor, size: int, what: str, bottom: int = 1) -> Tensor:
    """``values`` of bottom number ``bottom`` as int64, rounded towards zero like a C cast.

    Raises NetError when one is outside [0, size).  On CUDA the check runs on the device, in order with the other
    work, so that nothing waits: it stops the program there and prints the same place and range without the number.
    In a compiled graph PyTorch's own check must do.
    """
    indices = values.detach().long()
    if torch.compiler.is_compiling() or not indices.numel():
        return indices
    low, high = torch.aminmax(indices)
    if values.device.type == "cpu":
        if int(low) < 0 or int(high) >= size:
            _fail(layer, values.detach().flatten(), size, what, bottom)
    elif values.device.type == "cuda":
        message = f"{layer.where()}: {_blob(layer, bottom)}: {what} out of range; expected 0 to {size - 1}"
        torch._assert_async((low >= 0) & (high < size), message)  # noqa: SLF001  (no public name)
    return indices


def _fail(layer: Layer, values: Tensor, size: int, what: str, bottom: int) -> None:
    indices = values.long()
    place = int(((indices < 0) | (indices >= size)).nonzero()[0])
    cure = _CURES.get(what)
    layer.fail(
        f"{what} {float(values[place]):g} is out of range; expected 0 to {size - 1} "
        f"({_blob(layer, bottom)}, value {place + 1} of {len(values)})" + (f"; {cure}" if cure else "")
    )


def _blob(layer: Layer, bottom: int) -> str:
    names = layer.param.bottom
    return f'bottom "{names[bottom]}"' if bottom < len(names) else f"bottom {bottom}"
