"""Scale and Bias: a blob whose axes line up with the bottom's from ``axis`` on."""

from torch import Tensor

from caffe_compat.layers.base import Layer, Shape


def aligned_shape(layer: Layer, bottom: Shape, axis: int, num_axes: int, message: str) -> Shape:
    """``num_axes`` sizes of ``bottom`` from ``axis`` on, all for -1; NetError where they do not exist.

    ``message`` is the name of the ``*_param`` that holds both fields.
    """
    start = layer.canonical_axis(axis, len(bottom), f"{message}.axis")
    if num_axes < -1:
        layer.fail(f"{message}.num_axes is {num_axes}; expected at least 0, or -1 for all axes")
    if start + num_axes > len(bottom):
        layer.fail(f"{message}.num_axes is {num_axes}; bottom {bottom} has {len(bottom) - start} from axis {start} on")
    return bottom[start:] if num_axes == -1 else bottom[start : start + num_axes]


def check_aligned(layer: Layer, bottom: Shape, blob: Shape, axis: int, message: str) -> None:
    """Raise NetError unless the sizes of ``blob`` are those of ``bottom`` from ``axis`` on."""
    if not blob:
        return
    start = layer.canonical_axis(axis, len(bottom), f"{message}.axis")
    if bottom[start : start + len(blob)] != blob:
        layer.fail(f"a blob of shape {blob} does not fit bottom {bottom} from axis {start} on")


def align(blob: Tensor, bottom: Tensor, axis: int) -> Tensor:
    """``blob`` with axes of size 1 appended, so that it broadcasts over ``bottom``."""
    start = axis % bottom.dim() if blob.dim() else 0
    return blob.reshape(*blob.shape, *[1] * (bottom.dim() - start - blob.dim()))
