"""BatchReindex: pick, repeat or reorder the items of a batch."""

from typing import TYPE_CHECKING

from torch import Tensor

from caffe_compat.layers.base import Layer, Shape
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example
from caffe_compat.layers.shared.indices import to_indices

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph, OnnxStep


@register("BatchReindex")
class BatchReindex(Layer):
    """Bottoms (N, ...) and (M,), whole numbers in [0, N) -> top (M, ...)."""

    bottom_count = (2, 2)
    reads_again = (1,)
    no_gradient_bottoms = (1,)
    forced_bottoms = (1,)
    graph_safe = True

    def infer_shapes(self, bottom: Shape, index: Shape) -> list[Shape]:
        if not bottom or len(index) != 1:
            self.fail(f"bottoms have shapes {bottom} and {index}; expected (N, ...) and (M,)")
        return [(index[0], *bottom[1:])]

    def forward(self, bottom: Tensor, index: Tensor) -> Tensor:
        return bottom.index_select(0, to_indices(self, index, bottom.shape[0], "index"))

    def index_limits(self, bottom: Shape, index: Shape) -> dict[int, int]:
        return {1: bottom[0]}

    def to_onnx(self, graph: "OnnxGraph", step: "OnnxStep") -> list[str]:
        return [graph.add("Gather", step.bottoms[0], graph.to_index(step.bottoms[1]), axis=0)]

    @classmethod
    def example(cls, dice: Dice) -> Example:
        shape = dice.shape()
        return Example("", [dice.normal(*shape), dice.indices(shape[0], dice.integer(1, 6))])
