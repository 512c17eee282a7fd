"""PReLU: max(x, 0) + slope * min(x, 0), the slopes learned (He et al. 2015)."""

from typing import TYPE_CHECKING

from torch import Tensor
from torch.nn import functional

from caffe_compat.layers.base import Shape
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.channel_form import ChannelForm
from caffe_compat.layers.shared.example import Dice, Example
from caffe_compat.layers.shared.fillers import fill
from caffe_compat.layers.shared.neuron import NeuronLayer, is_in_place

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph, OnnxStep

DEFAULT_SLOPE = 0.25


@register("PReLU")
class PReLU(NeuronLayer):
    """Slope blob: (C,), or () with ``channel_shared``; 0.25 without a filler.  At 0 the gradient of
    the bottom is the slope."""

    param_fields = ("prelu_param",)
    graph_safe = True

    def setup(self, bottom: Shape) -> None:
        self._check_axes(bottom)
        self.keeps_forward = is_in_place(self)
        self.channel_shared = bool(self.param.prelu_param.channel_shared)
        self.add_blob("weight", () if self.channel_shared else (bottom[1],), self._fill)

    def _fill(self, slopes: Tensor) -> None:
        param = self.param.prelu_param
        if param.HasField("filler"):
            fill(slopes, param.filler)
        else:
            slopes.fill_(DEFAULT_SLOPE)

    def infer_shapes(self, bottom: Shape) -> list[Shape]:
        self._check_axes(bottom)
        if not self.channel_shared and (bottom[1],) != self.blob_shapes[0]:
            self.fail(f"bottom {bottom} has {bottom[1]} channels; the slopes have shape {self.blob_shapes[0]}")
        return [bottom]

    def _check_axes(self, bottom: Shape) -> None:
        # Caffe 1.0 stops at a fifth axis, as it asks for the channels by its old names of 4; Intel's takes any number.
        if len(bottom) < 2:
            self.fail(f"bottom has shape {bottom}; expected at least 2 axes")

    def forward(self, bottom: Tensor) -> Tensor:
        return functional.prelu(bottom, self.blob(0).reshape(-1))

    def channel_form(self, bottom: Shape) -> ChannelForm:
        return ChannelForm(slopes=self.blob(0).detach().double().reshape(-1))

    def to_onnx(self, graph: "OnnxGraph", step: "OnnxStep") -> list[str]:
        trailing = [1] * (len(step.bottom_shapes[0]) - 2)
        return [graph.add("PRelu", step.bottoms[0], graph.constant(self.blob(0).reshape(-1, *trailing)))]

    @classmethod
    def example(cls, dice: Dice) -> Example:
        return Example(f"prelu_param {{ channel_shared: {dice.switch()} }}", [dice.normal(*dice.shape(2, 4))])
