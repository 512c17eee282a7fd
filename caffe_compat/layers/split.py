"""Split: one blob for several readers.  Nets insert it; autograd adds up the gradients."""

from typing import TYPE_CHECKING

from torch import Tensor

from caffe_compat.layers.base import Layer, Shape, SharedMemory
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph, OnnxStep


@register("Split")
class Split(Layer):
    top_count = (1, None)
    graph_safe = True
    is_split = True

    def infer_shapes(self, bottom: Shape) -> list[Shape]:
        if self.param.bottom[0] in self.param.top:
            self.fail("cannot work in place; give every top a name of its own")
        return [bottom] * self.num_tops

    def forward(self, bottom: Tensor) -> tuple[Tensor, ...]:
        return (bottom,) * self.num_tops

    def shared_memory(self, need_backward: bool) -> SharedMemory | None:
        return SharedMemory(since="forward", diff="added")

    def is_identity(self) -> bool:
        return True

    def to_onnx(self, graph: "OnnxGraph", step: "OnnxStep") -> list[str]:
        return step.bottoms * len(step.top_shapes)

    @classmethod
    def example(cls, dice: Dice) -> Example:
        return Example("", [dice.normal(*dice.shape())], tops=dice.integer(1, 3))
