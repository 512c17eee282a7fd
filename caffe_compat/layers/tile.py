"""Tile: the bottom repeated along one axis."""

from typing import TYPE_CHECKING

from torch import Tensor

from caffe_compat.layers.base import Layer, Shape
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph, OnnxStep


@register("Tile")
class Tile(Layer):
    """(..., D, ...) -> (..., D * tiles, ...), the whole block of the axes from ``axis`` on each time."""

    param_fields = ("tile_param",)
    graph_safe = True
    drawing_kind = "shape"

    def setup(self, bottom: Shape) -> None:
        param = self.param.tile_param
        if not param.HasField("tiles") or param.tiles < 1:
            came = param.tiles if param.HasField("tiles") else "missing"
            self.fail(f"tile_param.tiles is {came}; expected at least 1")
        self.axis, self.tiles = int(param.axis), int(param.tiles)

    def infer_shapes(self, bottom: Shape) -> list[Shape]:
        axis = self.canonical_axis(self.axis, len(bottom), "tile_param.axis")
        return [(*bottom[:axis], bottom[axis] * self.tiles, *bottom[axis + 1 :])]

    def forward(self, bottom: Tensor) -> Tensor:
        repeats = [1] * bottom.dim()
        repeats[self.axis] = self.tiles
        return bottom.repeat(repeats)

    def to_onnx(self, graph: "OnnxGraph", step: "OnnxStep") -> list[str]:
        repeats = [1] * len(step.bottom_shapes[0])
        repeats[self.axis] = self.tiles
        return [graph.add("Tile", step.bottoms[0], graph.sizes(repeats))]

    @classmethod
    def example(cls, dice: Dice) -> Example:
        shape = dice.shape()
        fields = f"tile_param {{ axis: {dice.axis(len(shape))} tiles: {dice.integer(1, 4)} }}"
        return Example(fields, [dice.normal(*shape)])
