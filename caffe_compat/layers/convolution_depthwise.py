"""ConvolutionDepthwise: each channel convolved with one filter of its own (BVLC/caffe pull request 5665)."""

from caffe_compat.layers.base import Shape
from caffe_compat.layers.convolution import Convolution
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example


@register("ConvolutionDepthwise")
class ConvolutionDepthwise(Convolution):
    """A Convolution of which ``num_output`` and ``group`` are the bottom's channels; the file may leave both out.

    Weight (C, 1, kernel...), bias (C,).
    """

    graph_safe = True

    def setup(self, *bottoms: Shape) -> None:
        param = self.param.convolution_param
        first = bottoms[0]
        channels = first[self.canonical_axis(param.axis, len(first), "convolution_param.axis")]
        for field in ("num_output", "group"):
            if param.HasField(field) and getattr(param, field) != channels:
                self.fail(
                    f"convolution_param.{field} is {getattr(param, field)}; each of the bottom's {channels} channels "
                    f"has one filter, so expected {channels}, or the type DepthwiseConvolution"
                )
            setattr(param, field, channels)
        super().setup(*bottoms)

    @classmethod
    def example(cls, dice: Dice) -> Example:
        window = f"kernel_size: {dice.integer(1, 3)} stride: {dice.integer(1, 2)} pad: {dice.integer(0, 1)}"
        fields = f"bias_term: {dice.switch()} {window}"
        return Example(f"convolution_param {{ {fields} }}", [dice.normal(*dice.image())])
