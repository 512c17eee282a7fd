"""ChannelScale: every channel times one factor for each place (caffe-windows, NormFace)."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from caffe_compat.layers.base import Layer, Shape, count
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph, OnnxStep

# How much of the average of the factors stays in a training pass.
KEPT = 0.99


class _Scaled(torch.autograd.Function):
    """``top``, with the gradients of x * factors, whichever of them ``feature`` and ``scale`` turn on; without
    ``feature`` x gets the top's gradient as it is."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factors: Tensor, top: Tensor, turned_on: tuple[bool, bool]) -> Tensor:
        ctx.save_for_backward(x, factors)
        ctx.turned_on = turned_on
        return top.clone()

    @staticmethod
    def backward(ctx: Any, *top_diffs: Tensor) -> tuple[Tensor, Tensor, None, None]:
        x, factors = ctx.saved_tensors
        feature, scale = ctx.turned_on
        (diff,) = top_diffs
        of_factors = (x * diff).sum(1, keepdim=True) if scale else torch.zeros_like(factors)
        return (factors * diff if feature else diff), of_factors, None, None


@register("ChannelScale")
class ChannelScale(Layer):
    """Bottoms x (N, C, ...) and factors (N, 1, ...), or as many in another shape -> top x * factors.

    ``do_forward: false``: the top is x.  ``do_backward_feature: false``: x gets the top's gradient as it is;
    ``do_backward_scale: false``: the factors get none.  ``global_scale``: all is multiplied by one number, a blob (1,)
    that is not learned: in TRAIN the average of the factors over the passes (0.99 of it stays; as on CUDA, the fork's
    CPU code has no average), kept between ``min_global_scale`` and ``max_global_scale``; a second top (1,) is that
    number.  Gradients are still those of x * factors, as in the fork.
    """

    param_fields = ("channel_scale_param",)
    bottom_count = (2, 2)
    top_count = (1, 2)
    keeps_forward = True
    graph_safe = True

    def setup(self, x: Shape, factors: Shape) -> None:
        param = self.param.channel_scale_param
        self.do_forward, self.global_scale = bool(param.do_forward), bool(param.global_scale)
        self.turned_on = (bool(param.do_backward_feature), bool(param.do_backward_scale))
        self.least, self.most = float(param.min_global_scale), float(param.max_global_scale)
        if self.num_tops > 1 and not (self.global_scale and self.do_forward):
            self.fail("has 2 tops; expected 1, as the second is the number of global_scale")
        if self.global_scale:
            self.add_blob("scale", (1,), lambda blob: blob.fill_(-1), trainable=False)

    def infer_shapes(self, x: Shape, factors: Shape) -> list[Shape]:
        if len(x) < 2 or x[0] != factors[0] or count(factors) != x[0] * count(x, 2):
            self.fail(f"bottoms have shapes {x} and {factors}; expected (N, C, H, W) and (N, 1, H, W)")
        return [x, (1,)][: self.num_tops]

    def forward(self, x: Tensor, factors: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        factors = factors.reshape(len(x), 1, *x.shape[2:])
        with torch.no_grad():
            top = x
            if self.do_forward:
                top = x * (self._average(factors) if self.global_scale else factors)
        scaled: Tensor = _Scaled.apply(x, factors, top, self.turned_on)
        return scaled if self.num_tops == 1 else (scaled, self.blob(0).detach().clone())

    def _average(self, factors: Tensor) -> Tensor:
        """The number of ``global_scale``, brought up to date in TRAIN."""
        scale = self.blob(0)
        if self.training:
            mean = factors.abs().mean()
            scale.copy_(torch.where(scale < 0, mean, scale * KEPT + mean * (1 - KEPT)))
        return scale.clamp_(self.least, self.most)

    def to_onnx(self, graph: "OnnxGraph", step: "OnnxStep") -> list[str]:
        x, factors = step.bottoms
        if not self.do_forward:
            return [x]
        if self.global_scale:
            value = graph.constant(self.blob(0).detach().cpu().clamp(self.least, self.most).numpy())
            return [graph.add("Mul", x, value), value][: self.num_tops]
        batch, _, *rest = step.dims()
        return [graph.add("Mul", x, graph.reshape(factors, [batch, 1, *rest]))]

    @classmethod
    def example(cls, dice: Dice) -> Example:
        shape = dice.shape(2, 4)
        flags = " ".join(
            f"{name}: {dice.switch()}"
            for name in ("do_forward", "do_backward_feature", "do_backward_scale", "global_scale")
        )
        return Example(
            f"channel_scale_param {{ {flags} }}", [dice.normal(*shape), dice.normal(shape[0], 1, *shape[2:])]
        )
