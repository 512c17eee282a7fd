"""Parameter: a learned blob as a top, without a bottom."""

from typing import TYPE_CHECKING

from torch import Tensor

from caffe_compat.layers.base import Layer, Shape, SharedMemory
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph, OnnxStep


@register("Parameter")
class Parameter(Layer):
    """The top is the parameter of ``shape`` itself, zero at first (there is no filler)."""

    param_fields = ("parameter_param",)
    bottom_count = (0, 0)
    graph_safe = True

    def setup(self) -> None:
        self.add_blob("weight", tuple(self.param.parameter_param.shape.dim))

    def infer_shapes(self) -> list[Shape]:
        return [self.blob_shapes[0]]

    def forward(self) -> Tensor:
        return self.blob(0)

    def shared_memory(self, need_backward: bool) -> SharedMemory | None:
        return SharedMemory(of_parameter=True, since="forward")

    def to_onnx(self, graph: "OnnxGraph", step: "OnnxStep") -> list[str]:
        return [graph.constant(self.blob(0))]

    @classmethod
    def example(cls, dice: Dice) -> Example:
        dims = " ".join(f"dim: {size}" for size in dice.shape())
        return Example(f"parameter_param {{ shape {{ {dims} }} }}", [])
