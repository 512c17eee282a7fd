"""A net as fewer, larger nodes for running forward only: what ``Net.for_inference`` runs.

    node                      layers that it stands for
    ConvNode, ProductNode     Convolution, InnerProduct; BatchNorm, Scale and Bias before or behind it, in its weights;
                              an Eltwise sum with another blob, ReLU and PReLU behind it
    ChannelNode               the same layers where no convolution takes them, and Eltwise sums of two
    PoolNode, LrnNode         Pooling, LRN
    SoftmaxNode               Softmax over channels
    ConcatNode                Concat over channels
    LayerNode                 any other layer, as it is

Values (blobs, each version of one that a layer overwrites) are numbers.  Nodes have copies of the parameters.
"""

import copy
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from caffe_compat.layers.base import Layer, Shape
from caffe_compat.layers.concat import Concat
from caffe_compat.layers.convolution import Convolution
from caffe_compat.layers.eltwise import Eltwise
from caffe_compat.layers.inner_product import InnerProduct
from caffe_compat.layers.lrn import LRN
from caffe_compat.layers.pooling import Pooling
from caffe_compat.layers.shared.channel_form import ChannelForm
from caffe_compat.layers.shared.geometry import KernelWindow, overhang
from caffe_compat.layers.softmax import Softmax
from caffe_compat.net.graph import Graph, Step
from caffe_compat.ops.conv_window import ConvWindow
from caffe_compat.ops.torch_conv import torch_conv

Values = dict[int, Tensor]


@dataclass
class Node(ABC):
    """Reads values, makes one (a LayerNode: any number)."""

    inputs: list[int]
    outputs: list[int]

    @property
    def output(self) -> int:
        """The value of a node that makes one."""
        return self.outputs[0]

    @abstractmethod
    def compute(self, values: Values) -> Sequence[Tensor]:
        """The outputs, by PyTorch's operators, on any device and in any floating point type."""

    def run(self, values: Values) -> None:
        """Put the outputs into ``values``."""
        for index, value in zip(self.outputs, self.compute(values), strict=True):
            values[index] = value


@dataclass
class LayerNode(Node):
    """One layer as it is: itself, or where it has parameters, a copy."""

    layer: Layer
    copied: bool

    def compute(self, values: Values) -> Sequence[Tensor]:
        tops = self.layer(*(values[i] for i in self.inputs))
        return (tops,) if isinstance(tops, Tensor) else tops


@dataclass
class WeightNode(Node):
    """What convolutions and inner products share; inputs are [x], of a convolution also [x, a value to add]."""

    weight: Tensor  # (outputs, ...)
    bias: Tensor | None
    form: ChannelForm  # behind bias and addition; what it does at first is nothing

    @property
    def is_bare(self) -> bool:
        """Whether nothing stands behind the bias yet."""
        return len(self.inputs) == 1 and self.form == ChannelForm()

    def take_behind(self, form: ChannelForm) -> bool:
        """Do ``form`` too, behind all else; False where that cannot be."""
        if self.is_bare:
            self._scale_outputs(form)
            self.form = replace(form, scale=None, shift=None)
            return True
        if not (self.form.is_linear and form.only_cuts):
            return False
        self.form = form
        return True

    def _scale_outputs(self, form: ChannelForm) -> None:
        if form.scale is not None:
            factors = form.scale.expand(self.weight.shape[0])
            self._multiply_weight(factors.reshape(-1, *[1] * (self.weight.dim() - 1)))
            self.bias = None if self.bias is None else self.bias * factors
        if form.shift is not None:
            shift = form.shift.expand(self.weight.shape[0])
            self.bias = shift if self.bias is None else self.bias + shift

    def _multiply_weight(self, factors: Tensor) -> None:
        self.weight = (self.weight * factors).to(self.weight.dtype)

    def round_bias(self) -> None:
        """Give the bias, which is folded in float64, the weight's type."""
        self.bias = None if self.bias is None else self.bias.to(self.weight.dtype)

    def _finish(self, top: Tensor, values: Values) -> Tensor:
        return self.form.apply(top + values[self.inputs[1]] if len(self.inputs) > 1 else top)


@dataclass
class ConvNode(WeightNode):
    """A convolution over two spatial axes."""

    span: KernelWindow
    groups: int

    @property
    def window(self) -> ConvWindow:
        """As operators take it."""
        return self.span.with_groups(self.groups)

    def take_before(self, form: ChannelForm) -> bool:
        """Do ``form`` on the input too; False where that cannot be: what is padded is not shifted."""
        if not form.is_linear or (form.shift is not None and any(self.span.pad) and bool(form.shift.any())):
            return False
        groups, depth = self.groups, self.weight.shape[1]

        def over_inputs(numbers: Tensor) -> Tensor:
            # one for each of all channels -> (outputs, channels of the output's group, 1, 1)
            return (
                numbers.expand(groups * depth)
                .reshape(groups, depth)
                .repeat_interleave(self.weight.shape[0] // groups, 0)[:, :, None, None]
            )

        if form.shift is not None:
            shift = (self.weight * over_inputs(form.shift)).sum((1, 2, 3))
            self.bias = shift if self.bias is None else self.bias + shift
        if form.scale is not None:
            self._multiply_weight(over_inputs(form.scale))
        return True

    def compute(self, values: Values) -> Sequence[Tensor]:
        x = values[self.inputs[0]]
        missing = overhang(x.shape[2:], self.span)
        if any(missing):
            x = functional.pad(x, (0, missing[1], 0, missing[0]))
        return (self._finish(torch_conv(x, self.weight, self.bias, self.window), values),)


@dataclass
class ProductNode(WeightNode):
    """An inner product over all axes but the first."""

    def compute(self, values: Values) -> Sequence[Tensor]:
        x = values[self.inputs[0]]
        return (self._finish(functional.linear(x.flatten(1), self.weight, self.bias), values),)


@dataclass
class ChannelNode(Node):
    """form(input 0), or form(factor 0 * input 0 + factor 1 * input 1)."""

    form: ChannelForm
    factors: tuple[float, ...] = (1.0,)

    @property
    def is_sum(self) -> bool:
        """Whether it adds two values and does no more."""
        return self.factors == (1.0, 1.0) and self.form == ChannelForm()

    def compute(self, values: Values) -> Sequence[Tensor]:
        terms = [
            values[i] if factor == 1 else values[i] * factor
            for i, factor in zip(self.inputs, self.factors, strict=True)
        ]
        return (self.form.apply(sum(terms[1:], start=terms[0])),)


@dataclass
class PoolNode(Node):
    """MAX or AVE pooling."""

    layer: Pooling

    def compute(self, values: Values) -> Sequence[Tensor]:
        top = self.layer(values[self.inputs[0]])
        return (top,)


@dataclass
class LrnNode(Node):
    """LRN across channels."""

    layer: LRN

    def compute(self, values: Values) -> Sequence[Tensor]:
        return (self.layer(values[self.inputs[0]]),)


@dataclass
class SoftmaxNode(Node):
    """Softmax over channels."""

    layer: Softmax

    def compute(self, values: Values) -> Sequence[Tensor]:
        return (self.layer(values[self.inputs[0]]),)


@dataclass
class ConcatNode(Node):
    """Concat over channels."""

    def compute(self, values: Values) -> Sequence[Tensor]:
        return (torch.cat([values[i] for i in self.inputs], 1),)


@dataclass
class Folded:
    """A net's nodes in order.

    ``sources``: {number of a source's blob: value}, ``outputs``: {name of an output blob: value}, ``layers``: all that
    compute something, with the values that they read and make.
    """

    nodes: list[Node]
    sources: dict[int, int]
    outputs: dict[str, int]
    layers: list[tuple[Layer, list[int], list[int]]]

    def shapes(self, sources: Mapping[int, Shape]) -> dict[int, Shape]:
        """Of all values, from those of the sources'."""
        shapes = dict(sources)
        for layer, inputs, outputs in self.layers:
            tops = layer.infer_shapes(*(shapes[i] for i in inputs))
            shapes.update(zip(outputs, map(tuple, tops), strict=True))
        return shapes


def fold(graph: Graph) -> Folded:
    """The nodes of ``graph`` in its present mode, with copies of its parameters as they are now."""
    folded = _nodes_of_layers(graph)
    nodes: list[Node] = []
    readers = Counter(i for node in folded.nodes for i in node.inputs)
    readers.update(set(folded.outputs.values()))
    for node in folded.nodes:
        _add(nodes, node, readers)
    folded.nodes = nodes
    for node in nodes:
        if isinstance(node, WeightNode):
            node.round_bias()
    return folded


def _add(nodes: list[Node], node: Node, readers: Counter[int]) -> None:
    """Append ``node``, or give its work to nodes that are there."""
    made_by = {output: i for i, made in enumerate(nodes) for output in made.outputs}

    def only_for_us(value: int) -> Node | None:
        place = made_by.get(value)
        return nodes[place] if place is not None and readers[value] == 1 else None

    if isinstance(node, ChannelNode):
        if len(node.inputs) == 1 and node.factors == (1.0,) and _give(node, only_for_us(node.inputs[0])):
            return
        if node.is_sum:
            # The later of the two, so that the other value is there.
            places = sorted((made_by.get(i, -1), j) for j, i in enumerate(node.inputs))
            for _, j in reversed(places):
                maker, other = only_for_us(node.inputs[j]), node.inputs[1 - j]
                if isinstance(maker, ConvNode) and maker.is_bare and other != node.inputs[j]:
                    nodes.remove(maker)
                    maker.inputs, maker.outputs = [*maker.inputs, other], node.outputs
                    nodes.append(maker)
                    return
    if isinstance(node, ConvNode):
        before = only_for_us(node.inputs[0])
        if isinstance(before, ChannelNode) and before.factors == (1.0,) and node.take_before(before.form):
            nodes.remove(before)
            node.inputs = before.inputs
    nodes.append(node)


def _give(node: ChannelNode, maker: Node | None) -> bool:
    """Let ``maker`` do what ``node`` does, and have its output."""
    if isinstance(maker, WeightNode):
        if not maker.take_behind(node.form):
            return False
    elif isinstance(maker, ChannelNode):
        joined = node.form.after(maker.form)
        if joined is None:
            return False
        maker.form = joined
    else:
        return False
    maker.outputs = node.outputs
    return True


# -- from layers to nodes ---------------------------------------------------------------


def _nodes_of_layers(graph: Graph) -> Folded:
    value_of: dict[int, int] = {}  # blob number -> its value as of now
    shapes: dict[int, Shape] = {}
    layers: list[tuple[Layer, list[int], list[int]]] = []
    sources: dict[int, int] = {}
    nodes: list[Node] = []
    made = 0
    for step in graph.steps:
        inputs = [value_of[i] for i in step.bottoms]
        bottoms = [shapes[i] for i in inputs]
        if step.layer.is_identity() and _says_of_itself(step.layer, "is_identity") and not step.layer.has_hooks():
            for top in step.tops:
                value_of[top] = inputs[0]
            continue
        outputs = list(range(made, made + len(step.tops)))
        made += len(outputs)
        value_of.update(zip(step.tops, outputs, strict=True))
        if step.layer.is_source:
            sources.update(zip(step.tops, outputs, strict=True))
            shapes.update((value, graph.shapes[top]) for top, value in zip(step.tops, outputs, strict=True))
            continue
        shapes.update(zip(outputs, map(tuple, step.layer.infer_shapes(*bottoms)), strict=True))
        layers.append((step.layer, inputs, outputs))
        nodes.append(_node_of(step, inputs, outputs, bottoms))
    outputs_by_name = {name: value_of[graph.blob_names.index(name)] for name in graph.outputs}
    return Folded(nodes, sources, outputs_by_name, layers)


def _node_of(step: Step, inputs: list[int], outputs: list[int], bottoms: list[Shape]) -> Node:
    layer = step.layer
    if inputs and not layer.has_hooks():
        for make in _MAKERS:
            node = make(layer, inputs, outputs, bottoms)
            if node is not None:
                return node
    if layer.blobs and not layer.has_hooks():
        return LayerNode(inputs, outputs, copy.deepcopy(layer), copied=True)
    return LayerNode(inputs, outputs, layer, copied=False)


def _computes_as(layer: Layer, kind: type[Layer]) -> bool:
    """Whether ``layer`` is of ``kind``, or of a class under it that leaves the computation as it is."""
    methods = [name for name in ("forward", "_convolve", "_run", "_output_sizes") if hasattr(kind, name)]
    return isinstance(layer, kind) and all(getattr(type(layer), name) is getattr(kind, name) for name in methods)


def _says_of_itself(layer: Layer, method: str) -> bool:
    """Whether no class has another ``forward`` than the one of which ``method`` speaks."""
    classes = type(layer).__mro__
    said, done = (next(i for i, cls in enumerate(classes) if name in vars(cls)) for name in (method, "forward"))
    return said <= done


def _conv(layer: Layer, inputs: list[int], outputs: list[int], bottoms: list[Shape]) -> Node | None:
    if not _computes_as(layer, Convolution):
        return None
    assert isinstance(layer, Convolution)
    if len(inputs) != 1 or layer.axis != 1 or layer.spatial_axes != 2:
        return None
    return ConvNode(inputs, outputs, *_copies(layer), ChannelForm(), layer.window, layer.group)


def _product(layer: Layer, inputs: list[int], outputs: list[int], bottoms: list[Shape]) -> Node | None:
    if not _computes_as(layer, InnerProduct):
        return None
    assert isinstance(layer, InnerProduct)
    if layer.axis != 1 or layer.normalize or layer.is_given:
        return None
    weight, bias = _copies(layer)
    return ProductNode(inputs, outputs, weight.t().contiguous() if layer.transpose else weight, bias, ChannelForm())


def _copies(layer: Convolution | InnerProduct) -> tuple[Tensor, Tensor | None]:
    bias = layer.blob(1).detach().double() if len(layer.blobs) > 1 else None
    return layer.blob(0).detach().clone(), bias


def _channels(layer: Layer, inputs: list[int], outputs: list[int], bottoms: list[Shape]) -> Node | None:
    if len(bottoms[0]) < 2 or not _says_of_itself(layer, "channel_form"):
        return None
    form = layer.channel_form(*bottoms)
    return None if form is None else ChannelNode(inputs, outputs, form)


def _sum(layer: Layer, inputs: list[int], outputs: list[int], bottoms: list[Shape]) -> Node | None:
    if type(layer) is not Eltwise or layer.operation != "SUM" or layer.in_place or len(inputs) != 2:
        return None
    return ChannelNode(inputs, outputs, ChannelForm(), layer.coeffs)


def _pool(layer: Layer, inputs: list[int], outputs: list[int], bottoms: list[Shape]) -> Node | None:
    if type(layer) is not Pooling or len(outputs) != 1 or layer.method not in ("MAX", "AVE"):
        return None
    if layer.end_pad != layer.pad:
        return None
    return PoolNode(inputs, outputs, layer)


def _lrn(layer: Layer, inputs: list[int], outputs: list[int], bottoms: list[Shape]) -> Node | None:
    if type(layer) is not LRN or layer.norm_region != "ACROSS_CHANNELS":
        return None
    return LrnNode(inputs, outputs, layer)


def _softmax(layer: Layer, inputs: list[int], outputs: list[int], bottoms: list[Shape]) -> Node | None:
    if type(layer) is not Softmax or len(bottoms[0]) < 2 or layer.axis % len(bottoms[0]) != 1:
        return None
    return SoftmaxNode(inputs, outputs, layer)


def _concat(layer: Layer, inputs: list[int], outputs: list[int], bottoms: list[Shape]) -> Node | None:
    if type(layer) is not Concat or len(bottoms[0]) < 2 or layer.axis % len(bottoms[0]) != 1:
        return None
    return ConcatNode(inputs, outputs)


_MAKERS = (_conv, _product, _channels, _sum, _pool, _lrn, _softmax, _concat)
