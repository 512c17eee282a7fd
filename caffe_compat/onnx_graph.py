"""An ONNX graph under construction: what ``Layer.to_onnx`` writes into.  Needs the package onnx."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

Shape = tuple[int, ...]

#: the first in which ReduceSum, ReduceMean, ... all take their axes as an input
OPSET = 18


class OnnxStep(NamedTuple):
    """A layer's bottoms, by the names of their values, and the shapes of bottoms and tops."""

    bottoms: list[str]
    bottom_shapes: list[Shape]
    top_shapes: list[Shape]


class OnnxGraph:
    """Nodes and constants; every value is float32 unless a layer casts it.

    ``taken``: names that values made here must not have (the net's blobs).
    """

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = set(taken)
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self._prefix = ""
        self._made = 0

    def start_layer(self, name: str) -> None:
        """Values made from now on bear the layer's name."""
        self._prefix = name

    def new_name(self) -> str:
        """A value's name that nothing else has."""
        while True:
            self._made += 1
            name = f"{self._prefix}/{self._made}"
            if name not in self._taken:
                return name

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        """An initializer of a number, list, array or tensor."""
        if isinstance(value, Tensor):
            value = value.detach().cpu().numpy()
        name = self.new_name()
        self.initializers.append(numpy_helper.from_array(np.array(value, dtype=dtype, order="C"), name))
        return name

    def sizes(self, values: Sequence[int]) -> str:
        """An initializer of int64 numbers: shapes, axes, pads."""
        return self.constant(list(values), np.int64)

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """A node with one output; returns the output's name."""
        return self.add_many(operator, inputs, 1, **attributes)[0]

    def add_many(self, operator: str, inputs: Sequence[str], outputs: int, **attributes: Any) -> list[str]:
        """A node with several outputs."""
        names = [self.new_name() for _ in range(outputs)]
        self.nodes.append(helper.make_node(operator, list(inputs), names, **attributes))
        return names

    def scale(self, value: str, factor: float) -> str:
        """``value * factor``, left out for 1."""
        return value if factor == 1 else self.add("Mul", value, self.constant(factor))

    def shift(self, value: str, term: float) -> str:
        """``value + term``, left out for 0."""
        return value if term == 0 else self.add("Add", value, self.constant(term))

    def reshape(self, value: str, shape: Shape) -> str:
        """``value`` with a fixed shape."""
        return self.add("Reshape", value, self.sizes(shape))

    def resize(self, value: str, shape: Shape, **attributes: Any) -> str:
        """``value`` (N, C, H, W) interpolated to ``shape``; ``attributes``: those of ONNX's Resize."""
        return self.add("Resize", value, "", "", self.sizes(shape), **attributes)

    def to_float(self, value: str) -> str:
        """Cast to float32."""
        return self.add("Cast", value, to=TensorProto.FLOAT)

    def to_index(self, value: str) -> str:
        """Cast to int64."""
        return self.add("Cast", value, to=TensorProto.INT64)
