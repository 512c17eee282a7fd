"""MVN: mean-variance normalisation of each channel, or of each image."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from caffe_compat.layers.base import Layer, Shape
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example
from caffe_compat.layers.shared.neuron import is_in_place, warn_in_place_gradient

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph, OnnxStep


class _DivideByStd(torch.autograd.Function):
    """centred / (std + eps) over axis 1; the gradient takes std + eps for std, as in Caffe.

    In place Caffe overwrites the top's gradient before its last use, and so do we.
    """

    @staticmethod
    def forward(ctx: Any, centred: Tensor, eps: float, in_place: bool) -> Tensor:
        # centred (groups, values), mean 0
        divisor = centred.square().mean(1, keepdim=True).sqrt() + eps
        top = centred / divisor
        ctx.save_for_backward(top, divisor)
        ctx.in_place = in_place
        return top

    @staticmethod
    def backward(ctx: Any, *top_diffs: Tensor) -> tuple[Tensor, None, None]:
        top, divisor = ctx.saved_tensors
        (top_diff,) = top_diffs
        along_top = top * (top * top_diff).mean(1, keepdim=True)
        bottom_diff = -2 * along_top if ctx.in_place else top_diff - along_top
        return bottom_diff / divisor, None, None


@register("MVN")
class MVN(Layer):
    """Bottom of at most 4 axes -> top (N, C, H, W), missing axes as 1.

    Subtracts the mean and, with ``normalize_variance``, divides by the standard deviation + eps;
    over H and W, or with ``across_channels`` over C, H and W.
    """

    param_fields = ("mvn_param",)
    graph_safe = True
    keeps_forward = True
    onnx_float32 = True

    def setup(self, bottom: Shape) -> None:
        param = self.param.mvn_param
        self.normalize_variance, self.across_channels = bool(param.normalize_variance), bool(param.across_channels)
        self.eps = float(param.eps)
        self.in_place = is_in_place(self)
        if self.normalize_variance:
            warn_in_place_gradient(self)

    def infer_shapes(self, bottom: Shape) -> list[Shape]:
        if len(bottom) > 4:
            self.fail(f"bottom has shape {bottom}; expected at most 4 axes (N, C, H, W)")
        return [(*bottom, *[1] * (4 - len(bottom)))]

    def forward(self, bottom: Tensor) -> Tensor:
        x = bottom.reshape(*bottom.shape, *[1] * (4 - bottom.dim()))
        groups = x.flatten(1) if self.across_channels else x.flatten(0, 1).flatten(1)
        groups = groups - groups.mean(1, keepdim=True)
        if self.normalize_variance:
            groups = _DivideByStd.apply(groups, self.eps, self.in_place)
        return groups.reshape(x.shape)

    def to_onnx(self, graph: "OnnxGraph", step: "OnnxStep") -> list[str]:
        value = graph.unsqueeze(step.bottoms[0], range(len(step.bottom_shapes[0]), 4))
        axes = graph.sizes([1, 2, 3] if self.across_channels else [2, 3])
        centred = graph.add("Sub", value, graph.add("ReduceMean", value, axes))
        if not self.normalize_variance:
            return [centred]
        variance = graph.add("ReduceMean", graph.add("Mul", centred, centred), axes)
        return [graph.add("Div", centred, graph.shift(graph.add("Sqrt", variance), self.eps))]

    @classmethod
    def example(cls, dice: Dice) -> Example:
        fields = f"normalize_variance: {dice.switch()} across_channels: {dice.switch()} eps: 0.01"
        return Example(f"mvn_param {{ {fields} }}", [dice.normal(*dice.image())])
