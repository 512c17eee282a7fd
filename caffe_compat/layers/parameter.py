"""Parameter: a learned blob as a top, without a bottom."""

from typing import TYPE_CHECKING

from torch import Tensor

from caffe_compat.layers.base import Layer, Shape, SharedMemory
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example
from caffe_compat.layers.shared.fillers import fill

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph, OnnxStep


@register("Parameter")
class Parameter(Layer):
    """The top is the parameter of ``shape`` itself, zero at first, or as a fork's filler says: ``filler`` (OpenVINO's
    training toolbox) or ``blob_filler`` (NormFace)."""

    param_fields = ("parameter_param",)
    fork_fields = ("parameter_param.filler", "parameter_param.blob_filler")
    bottom_count = (0, 0)
    graph_safe = True

    def setup(self) -> None:
        param = self.param.parameter_param
        fillers = [getattr(param, name) for name in ("filler", "blob_filler") if param.HasField(name)]
        if len(fillers) > 1:
            self.fail("parameter_param has filler and blob_filler; expected one of them")
        self.add_blob("weight", tuple(param.shape.dim), (lambda t: fill(t, fillers[0])) if fillers else None)

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
