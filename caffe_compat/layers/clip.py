"""Clip: x limited to [min, max]."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from caffe_compat.layers.base import Shape
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example
from caffe_compat.layers.shared.neuron import NeuronLayer, is_in_place, warn_in_place_gradient

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph, OnnxStep


class _Clip(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, bottom: Tensor, low: float, high: float, in_place: bool) -> Tensor:
        # Unlike torch.clamp: nan becomes min, and min wins where min > max.
        top = bottom.clamp(max=high)
        top = torch.where(top > low, top, low)
        ctx.save_for_backward(top if in_place else bottom)
        ctx.bounds = low, high
        return top

    @staticmethod
    def backward(ctx: Any, top_diff: Tensor) -> tuple[Tensor, None, None, None]:
        (point,) = ctx.saved_tensors
        low, high = ctx.bounds
        return top_diff * ((point >= low) & (point <= high)), None, None, None


@register("Clip")
class Clip(NeuronLayer):
    """The gradient passes where min <= x <= max, both ends included; in place, everywhere."""

    param_fields = ("clip_param",)
    graph_safe = True

    def setup(self, bottom: Shape) -> None:
        param = self.param.clip_param
        self.low, self.high = float(param.min), float(param.max)
        self.in_place = is_in_place(self)
        if not self.param.HasField("clip_param"):
            self.warn("has no clip_param, so that every value becomes 0, as in Caffe; give min and max")
        warn_in_place_gradient(self)

    def forward(self, bottom: Tensor) -> Tensor:
        top: Tensor = _Clip.apply(bottom, self.low, self.high, self.in_place)
        return top

    def to_onnx(self, graph: "OnnxGraph", step: "OnnxStep") -> list[str]:
        # In this order min wins where min > max, as in Caffe.
        below = graph.add("Min", step.bottoms[0], graph.constant(self.high))
        return [graph.add("Max", below, graph.constant(self.low))]

    @classmethod
    def example(cls, dice: Dice) -> Example:
        fields = f"clip_param {{ min: {dice.number(-2, 0)} max: {dice.number(0, 2)} }}"
        return Example(fields, [dice.normal(*dice.shape())])
