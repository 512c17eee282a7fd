"""ELU: x above 0, alpha * (exp(x) - 1) below (Clevert et al. 2015)."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from caffe_compat.layers.base import Shape
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example
from caffe_compat.layers.shared.neuron import NeuronLayer, is_in_place

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph, OnnxStep


class _ELU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, bottom: Tensor, alpha: float, in_place: bool) -> Tensor:
        top = bottom.clamp(min=0) + alpha * (torch.exp(bottom.clamp(max=0)) - 1)
        ctx.save_for_backward(top if in_place else bottom, top)
        ctx.alpha = alpha
        return top

    @staticmethod
    def backward(ctx: Any, top_diff: Tensor) -> tuple[Tensor, None, None]:
        point, top = ctx.saved_tensors
        return torch.where(point > 0, top_diff, top_diff * (top + ctx.alpha)), None, None


@register("ELU")
class ELU(NeuronLayer):
    """The gradient at 0 is alpha.  In place it is judged by the top's sign, which differs only for
    a negative alpha."""

    param_fields = ("elu_param",)
    graph_safe = True

    def setup(self, bottom: Shape) -> None:
        self.alpha = float(self.param.elu_param.alpha)
        self.in_place = is_in_place(self)

    def forward(self, bottom: Tensor) -> Tensor:
        top: Tensor = _ELU.apply(bottom, self.alpha, self.in_place)
        return top

    def gradient_now(self, bottom: Tensor, top: Tensor, top_diff: Tensor, kept: Tensor) -> Tensor:
        return torch.where(bottom > 0, top_diff, top_diff * (top + self.alpha))

    def to_onnx(self, graph: "OnnxGraph", step: "OnnxStep") -> list[str]:
        return [graph.add("Elu", step.bottoms[0], alpha=self.alpha)]

    @classmethod
    def example(cls, dice: Dice) -> Example:
        return Example(f"elu_param {{ alpha: {dice.number(0, 2)} }}", [dice.normal(*dice.shape())])
