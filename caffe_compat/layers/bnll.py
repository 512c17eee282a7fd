"""BNLL: log(1 + exp(x)), the binomial normal log likelihood."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from caffe_compat.layers.base import Shape
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.neuron import NeuronLayer, is_in_place, warn_in_place_gradient

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph, OnnxStep


class _BNLL(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, bottom: Tensor, in_place: bool) -> Tensor:
        # softplus would be linear above 20; this form is exact on both sides.
        top = -functional.logsigmoid(-bottom)
        ctx.save_for_backward(top if in_place else bottom)
        return top

    @staticmethod
    def backward(ctx: Any, top_diff: Tensor) -> tuple[Tensor, None]:
        (point,) = ctx.saved_tensors
        return top_diff * torch.sigmoid(point), None


@register("BNLL")
class BNLL(NeuronLayer):
    """In place the gradient is sigmoid(top), as in Caffe, not sigmoid(bottom)."""

    graph_safe = True

    def setup(self, bottom: Shape) -> None:
        self.in_place = is_in_place(self)
        warn_in_place_gradient(self)

    def forward(self, bottom: Tensor) -> Tensor:
        top: Tensor = _BNLL.apply(bottom, self.in_place)
        return top

    def to_onnx(self, graph: "OnnxGraph", step: "OnnxStep") -> list[str]:
        return [graph.add("Softplus", step.bottoms[0])]
