"""AbsVal: |x|."""

from torch import Tensor

from caffe_compat.layers.base import Shape
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.neuron import NeuronLayer, refuse_in_place


@register("AbsVal")
class AbsVal(NeuronLayer):
    """The gradient at 0 is 0."""

    def setup(self, bottom: Shape) -> None:
        refuse_in_place(self)

    def forward(self, bottom: Tensor) -> Tensor:
        return bottom.abs()
