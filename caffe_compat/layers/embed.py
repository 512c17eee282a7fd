"""Embed: rows of a table by number."""

from typing import TYPE_CHECKING

from torch import Tensor
from torch.nn import functional

from caffe_compat.layers.base import Layer, Shape
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example
from caffe_compat.layers.shared.fillers import fill
from caffe_compat.layers.shared.indices import to_indices

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph, OnnxStep


@register("Embed")
class Embed(Layer):
    """Weight (input_dim, num_output), bias (num_output,).  Bottom of any shape with whole numbers
    in [0, input_dim) -> top (*bottom, num_output)."""

    param_fields = ("embed_param",)
    reads_again = (0,)
    no_gradient_bottoms = (0,)
    forced_bottoms = (0,)
    graph_safe = True
    drawing_kind = "weights"

    def setup(self, bottom: Shape) -> None:
        param = self.param.embed_param
        for name in ("num_output", "input_dim"):
            if not getattr(param, name):
                self.fail(f"embed_param.{name} is missing or 0; expected at least 1")
        self.num_output, self.input_dim = int(param.num_output), int(param.input_dim)
        self.bias_term = bool(param.bias_term)
        self.add_blob("weight", (self.input_dim, self.num_output), lambda t: fill(t, param.weight_filler))
        if self.bias_term:
            self.add_blob("bias", (self.num_output,), lambda t: fill(t, param.bias_filler))

    def infer_shapes(self, bottom: Shape) -> list[Shape]:
        return [(*bottom, self.num_output)]

    def forward(self, bottom: Tensor) -> Tensor:
        rows = to_indices(self, bottom, self.input_dim, "row", 0)
        top = functional.embedding(rows, self.blob(0))
        return top + self.blob(1) if self.bias_term else top

    def index_limits(self, bottom: Shape) -> dict[int, int]:
        return {0: self.input_dim}

    def to_onnx(self, graph: "OnnxGraph", step: "OnnxStep") -> list[str]:
        top = graph.add("Gather", graph.constant(self.blob(0)), graph.to_index(step.bottoms[0]), axis=0)
        return [graph.add("Add", top, graph.constant(self.blob(1))) if self.bias_term else top]

    @classmethod
    def example(cls, dice: Dice) -> Example:
        rows = dice.integer(1, 6)
        fields = f"input_dim: {rows} num_output: {dice.integer(1, 5)} bias_term: {dice.switch()}"
        return Example(f"embed_param {{ {fields} }}", [dice.indices(rows, *dice.shape(1, 3))])
