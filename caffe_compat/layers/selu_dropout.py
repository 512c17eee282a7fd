"""SeLuDropout: dropout that keeps mean 0 and variance 1 (Klambauer et al. 2017, alpha dropout)."""

from typing import TYPE_CHECKING

from torch import Tensor

from caffe_compat.layers.base import Shape
from caffe_compat.layers.dropout import draw_mask, layer_numbers
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example
from caffe_compat.layers.shared.neuron import NeuronLayer

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph, OnnxStep


@register("SeLuDropout")
class SeLuDropout(NeuronLayer):
    """In training a x + b, with ``alpha`` in place of x with probability ``dropout_ratio``; else the identity.

    With q = 1 - dropout_ratio: a = (q (1 + alpha^2 (1 - q)))^-1/2 and b = -a (1 - q) alpha.  The mask is drawn as
    Dropout's.
    """

    param_fields = ("selu_dropout_param",)
    keeps_forward = True
    graph_safe = True

    def setup(self, bottom: Shape) -> None:
        param = self.param.selu_dropout_param
        self.ratio, self.alpha = float(param.dropout_ratio), float(param.alpha)
        if not 0 < self.ratio < 1:
            self.fail(f"selu_dropout_param.dropout_ratio is {self.ratio:g}; expected a number between 0 and 1")
        kept = 1 - self.ratio
        self.scale = (kept * (1 + self.alpha**2 * self.ratio)) ** -0.5
        self.shift = -self.scale * self.ratio * self.alpha
        self._number = next(layer_numbers)

    def forward(self, bottom: Tensor) -> Tensor:
        if not self.training:
            return bottom.view_as(bottom)
        mask = draw_mask(bottom, self.ratio, self._number)
        top: Tensor = self.scale * (bottom * mask + self.alpha * (1 - mask)) + self.shift
        return top

    def is_identity(self) -> bool:
        return not self.training

    def to_onnx(self, graph: "OnnxGraph", step: "OnnxStep") -> list[str]:
        if self.training:
            self.fail("SeLuDropout in training has no ONNX form; use the TEST phase")
        return [step.bottoms[0]]

    @classmethod
    def example(cls, dice: Dice) -> Example:
        fields = f"phase: TEST selu_dropout_param {{ dropout_ratio: {dice.number(0.1, 0.9)} }}"
        return Example(fields, [dice.normal(*dice.shape())])
