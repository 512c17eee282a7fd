"""ShuffleChannel: the channels of some groups dealt out in turns (Zhang et al. 2017, ShuffleNet)."""

from typing import TYPE_CHECKING

from torch import Tensor

from caffe_compat.layers.base import Layer, Shape
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph, OnnxStep


@register("ShuffleChannel")
class ShuffleChannel(Layer):
    """Bottom (N, C, ...) -> top of the same shape: channel g C/group + c of the bottom is channel c group + g."""

    param_fields = ("shuffle_channel_param",)
    graph_safe = True
    drawing_kind = "shape"

    def setup(self, bottom: Shape) -> None:
        self.group = int(self.param.shuffle_channel_param.group)

    def infer_shapes(self, bottom: Shape) -> list[Shape]:
        if len(bottom) < 2 or self.group < 1 or bottom[1] % self.group:
            self.fail(
                f"shuffle_channel_param.group is {self.group}; it must divide the channels (axis 1) of bottom {bottom}"
            )
        return [bottom]

    def forward(self, bottom: Tensor) -> Tensor:
        groups: Tensor = bottom.unflatten(1, (self.group, -1))
        return groups.transpose(1, 2).flatten(1, 2)

    def to_onnx(self, graph: "OnnxGraph", step: "OnnxStep") -> list[str]:
        batch, channels, *spatial = step.dims()
        sizes = self.group, step.bottom_shapes[0][1] // self.group
        dealt = graph.add("Transpose", graph.reshape(step.bottoms[0], [batch, *sizes, -1]), perm=[0, 2, 1, 3])
        return [graph.reshape(dealt, [batch, channels, *spatial])]

    @classmethod
    def example(cls, dice: Dice) -> Example:
        group = dice.integer(1, 3)
        shape = dice.image(group * dice.integer(1, 3))
        return Example(f"shuffle_channel_param {{ group: {group} }}", [dice.normal(*shape)])
