"""Threshold: 1 where x is above the threshold, else 0."""

from torch import Tensor

from caffe_compat.layers.base import Shape
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.neuron import NeuronLayer


@register("Threshold")
class Threshold(NeuronLayer):
    param_fields = ("threshold_param",)
    has_backward = False

    def setup(self, bottom: Shape) -> None:
        self.threshold = float(self.param.threshold_param.threshold)

    def forward(self, bottom: Tensor) -> Tensor:
        return (bottom > self.threshold).to(bottom.dtype)
