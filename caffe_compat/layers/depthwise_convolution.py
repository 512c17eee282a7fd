"""DepthwiseConvolution: a Convolution under the name of MobileNet's fork (yonghenglh6)."""

from caffe_compat.layers.convolution import Convolution
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example


@register("DepthwiseConvolution")
class DepthwiseConvolution(Convolution):
    """A Convolution in all its fields; ``group`` is the file's, as a rule the number of channels."""

    graph_safe = True

    @classmethod
    def example(cls, dice: Dice) -> Example:
        channels = dice.integer(1, 6)
        window = f"kernel_size: {dice.integer(1, 3)} stride: {dice.integer(1, 2)} pad: {dice.integer(0, 1)}"
        fields = f"num_output: {channels} group: {channels} bias_term: {dice.switch()} {window}"
        return Example(f"convolution_param {{ {fields} }}", [dice.normal(*dice.image(channels))])
