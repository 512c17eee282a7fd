"""Input: blobs that the caller writes."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from caffe_compat.layers.base import Layer, Shape
from caffe_compat.layers.registry import register


@register("Input")
class Input(Layer):
    """Holds one value per top, zeros at first; ``held`` may be written or replaced."""

    param_fields = ("input_param",)
    bottom_count = (0, 0)
    top_count = (1, None)
    is_source = True
    graph_safe = True
    is_input = True

    def setup(self) -> None:
        shapes, tops = self.param.input_param.shape, self.num_tops
        if len(shapes) not in (0, 1, tops):
            self.fail(f"input_param.shape is given {len(shapes)} times; expected 0, 1 or {tops}, the number of tops")
        given = [tuple(int(d) for d in shape.dim) for shape in shapes]
        for shape in given:
            if any(d < 0 for d in shape):
                self.fail(f"input_param.shape is {shape}; a dimension cannot be negative")
        self._shapes: list[Shape] = given * tops if len(given) == 1 else given or [(0,)] * tops
        # Made on the first use, so that a net with huge nominal inputs costs nothing.
        self.held: list[Tensor | None] = [None] * tops
        self._followed: Sequence[Callable[[], Tensor]] = ()

    def infer_shapes(self) -> list[Shape]:
        return list(self._shapes)

    def next_batch(self) -> tuple[Tensor, ...]:
        """The held values, unchanged until somebody writes them."""
        if self._followed:
            return tuple(value() for value in self._followed)
        return tuple(self.hold(i) for i in range(len(self.held)))

    def follow(self, values: Sequence[Callable[[], Tensor]]) -> None:
        """From now on the value of each top is what its function gives: blobs that a caller sees elsewhere."""
        self._followed = values

    def hold(self, index: int, shape: Shape | None = None) -> Tensor:
        """The value of top ``index``; a new ``shape`` replaces it by zeros."""
        value = self.held[index]
        if shape is None:
            shape = self._shapes[index] if value is None else tuple(value.shape)
        if value is None or tuple(value.shape) != shape:
            value = self.held[index] = torch.zeros(shape, dtype=self.context.dtype)
        return value
