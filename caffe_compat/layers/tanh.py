"""TanH: the hyperbolic tangent."""

import torch
from torch import Tensor

from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.neuron import NeuronLayer


@register("TanH")
class TanH(NeuronLayer):
    """``engine`` chose between equal results in Caffe and changes nothing here."""

    param_fields = ("tanh_param",)

    def forward(self, bottom: Tensor) -> Tensor:
        return torch.tanh(bottom)
