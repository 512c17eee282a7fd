"""Reorg: trade resolution for channels in darknet's order (YOLO v2)."""

from typing import TYPE_CHECKING, Any

from torch import Tensor

from caffe_compat.layers.base import Layer, Shape
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph, OnnxStep


@register("Reorg")
class Reorg(Layer):
    """Bottom (N, C, H, W) -> top (N, C s^2, H / s, W / s), or (N, C / s^2, H s, W s) when ``reverse``; s: ``stride``.

    With ``reverse``, value (n, k, j, i) goes to channel k mod c, row j s + k div c div s, column i s + k div c mod s,
    where c = C / s^2.  Without, the numbers are darknet's: where ``reverse`` of a bottom of this size would write a
    value, it is read, and the other way round; as the sizes of top and bottom are others, that is not its inverse.
    """

    param_fields = ("reorg_param",)
    graph_safe = True
    drawing_kind = "shape"

    def setup(self, bottom: Shape) -> None:
        param = self.param.reorg_param
        self.stride, self.reverse = int(param.stride), bool(param.reverse)
        if self.stride < 1:
            self.fail(f"reorg_param.stride is {self.stride}; expected at least 1")

    def infer_shapes(self, bottom: Shape) -> list[Shape]:
        s = self.stride
        if len(bottom) != 4:
            self.fail(f"bottom has shape {bottom}; expected (N, C, H, W)")
        n, c, h, w = bottom
        # darknet's order of the other shape needs whole blocks of channels in both directions
        if c % (s * s) or (not self.reverse and (h % s or w % s)):
            self.fail(f"bottom has shape {bottom}; expected channels in multiples of {s * s}, height and width of {s}")
        return [(n, c // (s * s), h * s, w * s) if self.reverse else (n, c * s * s, h // s, w // s)]

    def forward(self, bottom: Tensor) -> Tensor:
        n, c, h, w = bottom.shape
        split, order = self._steps((n, c, h, w))
        return bottom.reshape(split).permute(order).reshape(self.infer_shapes(tuple(bottom.shape))[0])

    def _steps(self, bottom: tuple[Any, int, Any, Any]) -> tuple[tuple[Any, ...], Shape]:
        """The axes that the bottom's values are seen in, and their order in the top."""
        n, c, h, w = bottom
        s = self.stride
        if self.reverse:  # row, column, channel, H, W -> channel, H, row, W, column
            return (n, s, s, c // (s * s), h, w), (0, 3, 4, 1, 5, 2)
        return (n, c // (s * s), h, s, w, s), (0, 3, 5, 1, 2, 4)

    def to_onnx(self, graph: "OnnxGraph", step: "OnnxStep") -> list[str]:
        n, _, h, w = step.dims()
        split, order = self._steps((n, step.bottom_shapes[0][1], h, w))
        value = graph.add("Transpose", graph.reshape(step.bottoms[0], split), perm=list(order))
        change = ("Mul" if self.reverse else "Div", self.stride)
        sizes = [graph.work_out(size, change) for size in (h, w)]
        return [graph.reshape(value, [n, step.top_shapes[0][1], *sizes])]

    @classmethod
    def example(cls, dice: Dice) -> Example:
        s = dice.integer(1, 3)
        shape = dice.integer(1, 2), s * s * dice.integer(1, 2), s * dice.integer(1, 3), s * dice.integer(1, 3)
        return Example(f"reorg_param {{ stride: {s} reverse: {dice.switch()} }}", [dice.normal(*shape)])
