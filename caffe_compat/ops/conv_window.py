"""How a convolution's kernel moves over its input."""

from collections.abc import Sequence
from typing import Any, NamedTuple

Sizes = int | Sequence[int]


class ConvWindow(NamedTuple):
    """Stride, padding and dilation of each spatial axis, in elements, and how many groups the channels form.

    The operators of ``torch.ops.caffe_compat`` and the functions of ``torch.nn.functional`` take these four as
    arguments of their own, in this order: ``*window`` hands them over, ``from_arguments`` reads them.
    """

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int = 1

    @classmethod
    def per_axis(
        cls, axes: int, *, stride: Sizes = 1, padding: Sizes = 0, dilation: Sizes = 1, groups: int = 1
    ) -> "ConvWindow":
        """From one number for all of ``axes`` spatial axes, or one for each; ValueError for another count."""
        if axes == 2 and type(stride) is type(padding) is type(dilation) is int:  # most calls: a third of the time
            return cls((stride, stride), (padding, padding), (dilation, dilation), groups)
        return cls(
            _per_axis("stride", stride, axes),
            _per_axis("padding", padding, axes),
            _per_axis("dilation", dilation, axes),
            groups,
        )

    @classmethod
    def from_arguments(
        cls, stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int], groups: int
    ) -> "ConvWindow":
        """From the arguments of an operator."""
        return cls(tuple(stride), tuple(padding), tuple(dilation), groups)

    def keywords(self) -> dict[str, Any]:
        """The keyword arguments of ``conv`` and ``fast_conv``."""
        return {"stride": self.stride, "padding": self.padding, "dilation": self.dilation, "groups": self.groups}

    def output_size(self, input: Sequence[int], weight: Sequence[int]) -> tuple[int, ...]:
        """The output's spatial sizes for these shapes of input (N, C, spatial...) and weight.

        size' = (size + 2 padding - dilation (kernel - 1) - 1) // stride + 1: rounded down, as Caffe and PyTorch do;
        below 1 where the kernel does not fit.
        """
        axes = zip(input[2:], weight[2:], self.stride, self.padding, self.dilation, strict=True)
        return tuple(
            (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
            for size, kernel, stride, padding, dilation in axes
        )


def _per_axis(name: str, value: Sizes, axes: int) -> tuple[int, ...]:
    values = (value,) * axes if isinstance(value, int) else tuple(value)
    if len(values) != axes:
        raise ValueError(f"conv: {name} is {value}; expected one number, or {axes}")
    return values
