"""Filter: keep the items of each bottom whose selector is not zero."""

from typing import TYPE_CHECKING

from torch import Tensor

from caffe_compat.layers.base import Layer, LayerContext, Shape
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example
from caffe_compat.proto import caffe_pb2

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph, OnnxStep


@register("Filter")
class Filter(Layer):
    """Bottoms (N, ...), the last one a selector (N, 1, ...) -> tops (n, ...), n <= N as the data says.

    ``infer_shapes`` cannot know n and gives N, as Caffe does before the first forward.
    """

    bottom_count = (2, None)
    top_count = (1, None)
    keeps_forward = True
    tops_depend_on_data = True
    graph_obstacle = "has tops whose sizes depend on the data"

    def __init__(self, param: caffe_pb2.LayerParameter, context: LayerContext | None = None) -> None:
        super().__init__(param, context)
        self.no_gradient_bottoms = self.forced_bottoms = (len(param.bottom) - 1,)  # type: ignore[misc]

    def setup(self, *bottoms: Shape) -> None:
        tops = len(self.param.top)
        if tops != len(bottoms) - 1:
            self.fail(f"has {len(bottoms)} bottoms and {tops} tops; expected one top for each bottom but the selector")

    def infer_shapes(self, *bottoms: Shape) -> list[Shape]:
        *data, selector = bottoms
        if not selector or any(dim != 1 for dim in selector[1:]):
            self.fail(f"the selector (last bottom) has shape {selector}; expected (N, 1, ...)")
        for i, shape in enumerate(data):
            if not shape or shape[0] != selector[0]:
                self.fail(f"bottom {i} has shape {shape}, the selector {selector}; expected the same first dimension")
        return data

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        *data, selector = bottoms
        kept = selector.detach().flatten().nonzero().squeeze(1)
        return tuple(bottom.index_select(0, kept) for bottom in data)

    def index_limits(self, *bottoms: Shape) -> dict[int, int]:
        return {len(bottoms) - 1: 2}

    def to_onnx(self, graph: "OnnxGraph", step: "OnnxStep") -> list[str]:
        *data, selector = step.bottoms
        flags = graph.to_bool(graph.reshape(selector, [-1]))
        return [graph.choose(bottom, flags) for bottom in data]

    def data_sized(self) -> dict[int, int]:
        return dict.fromkeys(range(self.num_tops), 0)

    @classmethod
    def example(cls, dice: Dice) -> Example:
        n, number = dice.integer(2, 5), dice.integer(1, 3)
        chosen = dice.indices(2, n)
        chosen[dice.integer(0, n - 1)] = 1
        bottoms = [dice.normal(n, *dice.shape(1, 2)) for _ in range(number)]
        return Example("", [*bottoms, chosen], tops=number)
