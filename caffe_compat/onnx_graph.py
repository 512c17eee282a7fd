"""An ONNX graph under construction: what ``Layer.to_onnx`` writes into.  Needs the package onnx."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from caffe_compat.errors import NetError

Shape = tuple[int, ...]
Array = npt.NDArray[Any]

#: the first in which ReduceSum, ReduceMean, ... all take their axes as an input
OPSET = 18

FLOAT16_MAX = float(np.finfo(np.float16).max)
_FLT_MAX = float(np.finfo(np.float32).max)


class Size(NamedTuple):
    """A size that only a run tells: that of ``axis`` of ``value``."""

    value: str
    axis: int


#: of a shape that is written into the graph: a number, a size that the run tells, or an int64 value of one element
Dim = int | Size | str


class OnnxStep(NamedTuple):
    """A layer's bottoms, by the names of their values, and the shapes of bottoms and tops as the net stands.

    ``varying``: for each bottom the axes whose size another run may change (``--dynamic``, or a layer before this one
    whose tops have as many rows as it finds).  None vary where it is empty.
    """

    bottoms: list[str]
    bottom_shapes: list[Shape]
    top_shapes: list[Shape]
    varying: Sequence[frozenset[int]] = ()

    def varies(self, bottom: int, axes: Iterable[int] | None = None) -> bool:
        """Whether one of these axes of a bottom varies, or of all where none are named."""
        changing = self.varying[bottom] if self.varying else frozenset()
        return bool(changing if axes is None else changing.intersection(axes))

    def size_of(self, bottom: int, axis: int) -> Dim:
        """One size of a bottom: a ``Size`` where it varies."""
        return Size(self.bottoms[bottom], axis) if self.varies(bottom, [axis]) else self.bottom_shapes[bottom][axis]

    def dims(self, bottom: int = 0) -> tuple[Dim, ...]:
        """A bottom's shape, with a ``Size`` for each axis that varies."""
        return tuple(self.size_of(bottom, axis) for axis in range(len(self.bottom_shapes[bottom])))


class OnnxGraph:
    """Nodes and constants; every value is a float unless a layer casts it.

    ``taken``: names that values made here must not have (the net's blobs).  ``half``: floats have 16 bits, but for the
    values in ``wide`` and the layers that say ``onnx_float32``.
    """

    def __init__(self, taken: Iterable[str] = (), *, half: bool = False) -> None:
        self.taken = set(taken)
        self.half = half
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        #: values of 32 bits in a graph of 16
        self.wide: set[str] = set()
        self._float32 = not half
        self._prefix = ""
        self._node_names: set[str] = set()
        self._parameters: Mapping[int, str] = {}
        self._made: dict[Any, str] = {}
        self._constants: dict[str, Array] = {}

    # -- what layers use ------------------------------------------------------------------

    def constant(self, value: Any, dtype: Any = None) -> str:
        """An initializer of a number, list, array or tensor; of the graph's floats where no ``dtype`` is given.

        A parameter of a layer has the name that state_dict gives it, and is written once.
        """
        key = ("parameter", id(value), self._float32) if isinstance(value, nn.Parameter) and dtype is None else None
        if key in self._made:
            return self._made[key]
        name = self.unique(self._parameters.get(id(value), f"{self._prefix}/constant"))
        if isinstance(value, Tensor):
            value = value.detach().cpu().numpy()
        array = self._as_floats(value) if dtype is None else np.array(value, dtype=dtype, order="C")
        self.initializers.append(numpy_helper.from_array(array, name))
        self._constants[name] = array
        if key is not None:
            self._made[key] = name
        return name

    def sizes(self, values: Sequence[int]) -> str:
        """An initializer of int64 numbers: shapes, axes, pads."""
        return self.constant(list(values), np.int64)

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """A node with one output; returns the output's name."""
        return self.add_many(operator, inputs, 1, **attributes)[0]

    def add_many(self, operator: str, inputs: Sequence[str], outputs: int, **attributes: Any) -> list[str]:
        """A node with several outputs."""
        name = self.unique_node(f"{self._prefix}/{operator}")
        names = [self.unique(f"{self._prefix}/{operator}") for _ in range(outputs)]
        self.nodes.append(helper.make_node(operator, list(inputs), names, name, **attributes))
        return names

    def scale(self, value: str, factor: float) -> str:
        """``value * factor``, left out for 1."""
        return value if factor == 1 else self.add("Mul", value, self.constant(factor))

    def shift(self, value: str, term: float) -> str:
        """``value + term``, left out for 0."""
        return value if term == 0 else self.add("Add", value, self.constant(term))

    def reshape(self, value: str, shape: Sequence[Dim]) -> str:
        """``value`` with another shape; one -1 in it is what is left over."""
        dims: list[Dim] = [0 if size == Size(value, i) else size for i, size in enumerate(shape)]
        told = [i for i, size in enumerate(dims) if not isinstance(size, int)]
        if len(told) == 1 and -1 not in dims:
            dims[told[0]] = -1
        return self.add("Reshape", value, self.shape(dims))

    def shape(self, dims: Sequence[Dim]) -> str:
        """An int64 value with these sizes."""
        numbers = [size for size in dims if isinstance(size, int)]
        if len(numbers) == len(dims):
            return self.sizes(numbers)
        return self.add("Concat", *(self.size(size) for size in dims), axis=0)

    def size_at(self, value: str, axis: int) -> Size:
        """The size of any value's axis, which the run tells."""
        return Size(value, axis)

    def size(self, size: Dim) -> str:
        """An int64 value with one element, the size."""
        if isinstance(size, str):
            return size
        if isinstance(size, int):
            return self.sizes([size])
        if size not in self._made:
            self._made[size] = self.add("Shape", size.value, start=size.axis, end=size.axis + 1)
        return self._made[size]

    def unsqueeze(self, value: str, axes: Sequence[int]) -> str:
        """``value`` with axes of size 1 at these places of the result; as it is for none."""
        return self.add("Unsqueeze", value, self.sizes(axes)) if axes else value

    def work_out(self, size: Dim, *steps: tuple[str, int]) -> Dim:
        """A size after operations on it, as ``("Add", -1), ("Div", 2)``: a number where it is one.  Div: of numbers of
        at least 0."""
        for operator, number in steps:
            if isinstance(size, int):
                size = {"Add": size + number, "Mul": size * number, "Div": size // number if number else 0}[operator]
            elif number != (0 if operator == "Add" else 1):
                size = self.add(operator, self.size(size), self.sizes([number]))
        return size

    def resize(self, value: str, shape: Sequence[Dim], **attributes: Any) -> str:
        """``value`` (N, C, H, W) interpolated to ``shape``; ``attributes``: those of ONNX's Resize."""
        return self.add("Resize", value, "", "", self.shape(shape), **attributes)

    def choose(self, value: str, flags: str) -> str:
        """The rows of ``value`` whose ``flags`` (rows,), a bool each, are true.  (OpenCV has no Compress.)"""
        return self.add("Gather", value, self.add("Reshape", self.add("NonZero", flags), self.sizes([-1])), axis=0)

    def to_float(self, value: str) -> str:
        """Cast to the graph's floats."""
        return self.add("Cast", value, to=TensorProto.FLOAT if self._float32 else TensorProto.FLOAT16)

    def to_float32(self, value: str) -> str:
        """Cast to 32 bits whatever the graph has: for indices, which 16 bits hold up to 2048 only.

        The result is to be a top; no other float may be computed with it.
        """
        found = self.add("Cast", value, to=TensorProto.FLOAT)
        self.wide.add(found)
        return found

    def to_index(self, value: str) -> str:
        """Cast to int64."""
        return self.add("Cast", value, to=TensorProto.INT64)

    def to_bool(self, value: str) -> str:
        """Cast to bool: whether it is not 0."""
        return self.add("Cast", value, to=TensorProto.BOOL)

    def known(self, value: str) -> Array | None:
        """The numbers of a value that is constant; None for others."""
        return self._constants.get(value)

    # -- what the writer of the whole graph uses ------------------------------------------

    def start_layer(self, name: str, parameters: Mapping[int, str] | None = None, *, float32: bool = False) -> None:
        """Nodes and values made from now on bear the layer's name; ``parameters``: {id: name} of its own."""
        self._prefix = name
        self._parameters = parameters or {}
        self._float32 = float32 or not self.half

    def unique(self, name: str) -> str:
        """A value's name that nothing else has: this one if it is free."""
        return _unique(name, self.taken)

    def unique_node(self, name: str) -> str:
        """A node's name that no other has: this one if it is free."""
        return _unique(name, self._node_names)

    def read(self, value: str, *, index: bool = False) -> str:
        """A bottom in the floats of the layer that reads it; as it is where it holds an ``index``."""
        is_wide = not self.half or value in self.wide
        if index or is_wide == self._float32:
            return value
        key = ("cast", value, self._float32)
        if key not in self._made:
            self._made[key] = self.to_float(value)
        return self._made[key]

    def make_wide(self, values: Iterable[str]) -> None:
        """Note that values of this layer have 32 bits, where it computes with them."""
        if self.half and self._float32:
            self.wide.update(values)

    def read_initializers(self) -> list[Any]:
        """The constants that some node reads."""
        read = {name for node in self.nodes for name in node.input}
        read.update(
            name for node in self.nodes for part in node.attribute for inner in part.g.node for name in inner.input
        )
        return [constant for constant in self.initializers if constant.name in read]

    def subgraph(self, name: str) -> "OnnxGraph":
        """An empty graph for the body of a Scan, in this layer; its names are unlike all others."""
        body = OnnxGraph(half=self.half)
        body.taken, body._node_names, body._prefix = self.taken, self._node_names, f"{self._prefix}/{name}"
        body._float32 = self._float32
        return body

    def body(self, inputs: Sequence[str], outputs: Sequence[str]) -> Any:
        """This graph as another's node has it: all its inputs and outputs are floats."""
        given, found = (
            [helper.make_tensor_value_info(name, self.element_type(), None) for name in names]
            for names in (inputs, outputs)
        )
        return helper.make_graph(self.nodes, self._prefix, given, found, self.initializers)

    def element_type(self) -> int:
        """ONNX's number for the floats of the layer at hand."""
        return TensorProto.FLOAT if self._float32 else TensorProto.FLOAT16

    def _as_floats(self, value: Any) -> Array:
        array: Array = np.array(value, dtype=np.float32, order="C")
        if self._float32:
            return array
        limits = np.where(np.abs(array) >= _FLT_MAX, np.clip(array, -FLOAT16_MAX, FLOAT16_MAX), array)
        if np.max(np.abs(limits), initial=0.0) > FLOAT16_MAX:
            raise NetError(
                f'layer "{self._prefix}": holds {np.max(np.abs(limits)):.6g}; float16 ends at {FLOAT16_MAX:.0f}: '
                "leave out --fp16"
            )
        return limits.astype(np.float16)


def _unique(name: str, taken: set[str]) -> str:
    name = name or "unnamed"
    unique, number = name, 2
    while unique in taken:
        unique, number = f"{name}_{number}", number + 1
    taken.add(unique)
    return unique
