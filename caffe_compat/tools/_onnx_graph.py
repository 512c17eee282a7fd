"""A net as an ONNX graph: what the converters in ``_onnx_layers`` write into."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from caffe_compat import __version__
from caffe_compat.errors import NetError
from caffe_compat.layers.base import Layer, Shape
from caffe_compat.net import Net

#: the first in which ReduceSum, ReduceMean, ... all take their axes as an input
OPSET = 18


class LayerStep(NamedTuple):
    """One layer while it is converted: ONNX names of its bottoms, and all shapes."""

    layer: Layer
    bottoms: list[str]
    bottom_shapes: list[Shape]
    top_shapes: list[Shape]


class OnnxGraph:
    """Nodes and constants under construction; every value is float32 unless a converter casts it."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self._prefix = ""
        self._made = 0

    def start_layer(self, name: str) -> None:
        """Values made from now on bear the layer's name."""
        self._prefix = name

    def new_name(self) -> str:
        """A value's name that nothing else has."""
        self._made += 1
        return f"{self._prefix}/{self._made}"

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


Converter = Callable[[OnnxGraph, LayerStep], list[str]]


def to_onnx(net: Net, converters: dict[str, Converter]) -> Any:
    """The ModelProto of a TEST net: its Input blobs are the inputs, its outputs the outputs, both
    at the present shapes.  NetError names every layer whose type has no converter."""
    unknown = [s.layer for s in net.steps if s.layer.type != "Input" and s.layer.type not in converters]
    if unknown:
        named = ", ".join(f'"{layer.name}" ({layer.type})' for layer in unknown)
        raise NetError(
            f"{net.source}: no ONNX form for layer {named}; convert a deploy net, without data and loss layers"
        )
    graph = OnnxGraph()
    shapes = net.blob_shapes_in_order
    values: dict[int, str] = {}
    inputs = []
    for step in net.steps:
        if step.layer.is_source:
            for i in step.tops:
                values[i] = net.blob_names[i]
                inputs.append(helper.make_tensor_value_info(net.blob_names[i], TensorProto.FLOAT, shapes[i]))
            continue
        graph.start_layer(step.layer.name)
        bottom_shapes, top_shapes = ([shapes[i] for i in blobs] for blobs in (step.bottoms, step.tops))
        tops = converters[step.layer.type](
            graph, LayerStep(step.layer, [values[i] for i in step.bottoms], bottom_shapes, top_shapes)
        )
        values.update(zip(step.tops, tops, strict=True))
    outputs = []
    for name in net.outputs:
        index = net.blob_names.index(name)
        if values[index] != name:
            graph.nodes.append(helper.make_node("Identity", [values[index]], [name]))
        outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shapes[index]))
    return helper.make_model(
        helper.make_graph(graph.nodes, net.name or "net", inputs, outputs, graph.initializers),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=min(10, onnx.IR_VERSION),  # readers lag behind the newest
        producer_name="caffe_compat",
        producer_version=__version__,
    )
