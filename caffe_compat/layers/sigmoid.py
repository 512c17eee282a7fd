"""Sigmoid: 1 / (1 + exp(-x))."""

import torch
from torch import Tensor

from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.neuron import NeuronLayer


@register("Sigmoid")
class Sigmoid(NeuronLayer):
    """``engine`` chose between equal results in Caffe and changes nothing here."""

    param_fields = ("sigmoid_param",)

    def forward(self, bottom: Tensor) -> Tensor:
        return torch.sigmoid(bottom)
