"""Silence: takes blobs that nobody else reads, so that they are no outputs of the net."""

from torch import Tensor

from caffe_compat.layers.base import Layer, Shape
from caffe_compat.layers.registry import register


@register("Silence")
class Silence(Layer):
    """Any number of bottoms, no top; the bottoms' gradient is 0."""

    bottom_count = (1, None)
    top_count = (0, 0)

    def infer_shapes(self, *bottoms: Shape) -> list[Shape]:
        return []

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        return ()
