"""Swish: x * sigmoid(beta * x) (Ramachandran et al. 2017)."""

import torch
from torch import Tensor

from caffe_compat.layers.base import Shape
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.neuron import NeuronLayer


@register("Swish")
class Swish(NeuronLayer):
    param_fields = ("swish_param",)

    def setup(self, bottom: Shape) -> None:
        self.beta = float(self.param.swish_param.beta)

    def forward(self, bottom: Tensor) -> Tensor:
        return bottom * torch.sigmoid(bottom * self.beta)
