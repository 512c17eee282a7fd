"""Softmax along one axis."""

import torch
from torch import Tensor

from caffe_compat.layers.base import Layer, Shape
from caffe_compat.layers.registry import register


@register("Softmax")
class Softmax(Layer):
    param_fields = ("softmax_param",)

    def setup(self, bottom: Shape) -> None:
        self.axis = int(self.param.softmax_param.axis)

    def infer_shapes(self, bottom: Shape) -> list[Shape]:
        self.canonical_axis(self.axis, len(bottom), "softmax_param.axis")
        return [bottom]

    def forward(self, bottom: Tensor) -> Tensor:
        return torch.softmax(bottom, self.axis)
