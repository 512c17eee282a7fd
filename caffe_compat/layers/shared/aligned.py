"""Scale and Bias: a blob whose axes line up with the bottom's from ``axis`` on."""

from typing import TYPE_CHECKING

from torch import Tensor

from caffe_compat.layers.base import Layer, Shape
from caffe_compat.layers.shared.example import Dice, Example

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph, OnnxStep


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
    return blob.reshape(_broadcast_shape(tuple(blob.shape), bottom.dim(), axis))


def aligned_channels(blob: Shape, bottom: Shape, axis: int) -> bool:
    """Whether ``blob`` has one number for each channel (axis 1) of ``bottom``, or one for all."""
    return blob == () or (len(bottom) > 1 and blob == bottom[1:2] and axis % len(bottom) == 1)


def _broadcast_shape(blob: Shape, axes: int, axis: int) -> Shape:
    start = axis % axes if blob else 0
    return (*blob, *[1] * (axes - start - len(blob)))


def onnx_operand(graph: "OnnxGraph", step: "OnnxStep", blob: Tensor | None, axis: int) -> str:
    """Parameter ``blob``, or without one the second bottom, as a value that broadcasts over bottom 0."""
    axes = len(step.bottom_shapes[0])
    if blob is not None:
        return graph.constant(blob.reshape(_broadcast_shape(tuple(blob.shape), axes, axis)))
    rank = len(step.bottom_shapes[1])
    start = axis % axes if rank else axes - rank
    return graph.unsqueeze(step.bottoms[1], range(rank, axes - start))


def aligned_example(dice: Dice, message: str, more_fields: str = "") -> Example:
    """A layer whose blob is a parameter, or its second bottom; ``message``: the ``*_param`` with its fields."""
    shape = dice.shape(2, 4)
    axis = dice.integer(0, len(shape) - 1)
    axes = dice.integer(0, len(shape) - axis)
    if dice.integer(0, 1):
        fields = f"axis: {axis} num_axes: {dice.pick(-1, axes)} {more_fields}"
        return Example(f"{message} {{ {fields} }}", [dice.normal(*shape)])
    fields = f"axis: {0 if axes == 0 else axis} {more_fields}"
    return Example(f"{message} {{ {fields} }}", [dice.normal(*shape), dice.normal(*shape[axis : axis + axes])])
