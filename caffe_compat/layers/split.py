"""Split: one blob for several readers.  Nets insert it; autograd adds up the gradients."""

from torch import Tensor

from caffe_compat.layers.base import Layer, Shape
from caffe_compat.layers.registry import register


@register("Split")
class Split(Layer):
    top_count = (1, None)

    def infer_shapes(self, bottom: Shape) -> list[Shape]:
        if self.param.bottom[0] in self.param.top:
            self.fail("cannot work in place; give every top a name of its own")
        return [bottom] * self.num_tops

    def forward(self, bottom: Tensor) -> tuple[Tensor, ...]:
        return (bottom,) * self.num_tops
