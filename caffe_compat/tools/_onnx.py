"""A net as an ONNX model, layer by layer (``Layer.to_onnx``)."""

from collections.abc import Sequence
from typing import Any

import onnx
from onnx import TensorProto, helper

from caffe_compat import __version__
from caffe_compat.errors import NetError
from caffe_compat.net import Net
from caffe_compat.net.graph import Step
from caffe_compat.onnx_graph import OPSET, OnnxGraph, OnnxStep
from caffe_compat.tools._exported import OUTPUT_KEY
from caffe_compat.tools._onnx_sizes import Sizes, find_sizes


def to_onnx(net: Net, dynamic: Sequence[str] = (), *, half: bool = False, outputs: Sequence[str] | None = None) -> Any:
    """The ModelProto of a TEST net: its Input blobs are the inputs, its outputs the outputs, all float32.

    ``dynamic``: which axes of the inputs a run may change, of "batch" (0), "height" (2) and "width" (3); the others are
    fixed as the net has them.  ``half``: weights and what is computed are float16.  ``outputs``: blobs in place of the
    net's outputs.
    Nodes have the layers' names, values the blobs'.  A blob that a layer overwrites in place is ``blob/layer`` as the
    layer before left it; the last one has the blob's name.  An output that has an input's name gets another, which the
    model's metadata tells (``OUTPUT_KEY``).  NetError names every layer whose type has no ONNX form, and refuses a net
    without an output.
    """
    unknown = [step.layer for step in net.steps if not (step.layer.is_input or step.layer.has_onnx_form())]
    if unknown:
        named = ", ".join(
            f'"{layer.name}" ({layer.type}{f": {layer.onnx_obstacle}" if layer.onnx_obstacle else ""})'
            for layer in unknown
        )
        cures = []
        if not all(layer.onnx_obstacle for layer in unknown):
            cures.append("convert a deploy net, without data and loss layers: --deploy makes one")
        if any(layer.onnx_obstacle for layer in unknown):
            cures.append("convert the net up to the bottoms of such a layer, and run that layer here, behind the file")
        raise NetError(f"{net.source}: no ONNX form for layer {named}; {'; '.join(cures)}")
    names = net.outputs if outputs is None else outputs
    if not names:
        last = net.steps[-1].layer
        raise NetError(
            f'{net.source}: no output to convert; delete the layer "{last.name}" ({last.type}), which reads it'
        )
    return _Writer(net, find_sizes(net, dynamic), half).model(names)


class _Writer:
    """Walks through a net's layers."""

    def __init__(self, net: Net, sizes: Sizes, half: bool) -> None:
        self.net, self.sizes = net, sizes
        #: by blob number: the shape that it has now, which a layer in place may change (MVN adds axes)
        self.shapes = list(net.blob_shapes_in_order)
        self.graph = OnnxGraph(net.blob_names, half=half)
        self.parameters = {id(parameter): name for name, parameter in net.named_parameters()}
        #: by blob number: the value that it has now
        self.values: dict[int, str] = {}
        #: (value, blob, layer) in the order of writing
        self.written: list[tuple[str, int, str]] = []
        self.inputs: list[Any] = []

    def model(self, outputs: Sequence[str]) -> Any:
        for step in self.net.steps:
            if step.layer.is_input:
                self._add_inputs(step)
            else:
                self._add_layer(step)
        ends, renamed = self._name_values(outputs)
        model = helper.make_model(
            helper.make_graph(
                self.graph.nodes, self.net.name or "net", self.inputs, ends, self.graph.read_initializers()
            ),
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=min(10, onnx.IR_VERSION),  # readers lag behind the newest
            producer_name="caffe_compat",
            producer_version=__version__,
        )
        helper.set_model_props(model, renamed)
        return model

    def _add_inputs(self, step: Step) -> None:
        for i in step.tops:
            name = self.net.blob_names[i] or self.graph.unique("")
            self.values[i] = name
            self.graph.wide.add(name)
            self.inputs.append(self._value_info(name, i))

    def _add_layer(self, step: Step) -> None:
        layer, graph = step.layer, self.graph
        graph.start_layer(layer.name, self.parameters, float32=layer.onnx_float32)
        bottom_shapes = [self.shapes[i] for i in step.bottoms]
        top_shapes = [tuple(shape) for shape in layer.infer_shapes(*bottom_shapes)]
        indices = layer.index_limits(*bottom_shapes)
        bottoms = [graph.read(self.values[i], index=j in indices) for j, i in enumerate(step.bottoms)]
        varying = [self.sizes.varying[i] for i in step.bottoms]
        before = len(graph.nodes)
        tops = layer.to_onnx(graph, OnnxStep(bottoms, bottom_shapes, top_shapes, varying))
        made = {output for node in graph.nodes[before:] for output in node.output}
        graph.make_wide(made.intersection(tops))
        for node in graph.nodes[before:]:
            if tops and tops[0] in node.output:  # the others are <layer>/<operator>
                node.name = graph.unique_node(layer.name)
        for blob, value, shape in zip(step.tops, tops, top_shapes, strict=True):
            self.values[blob], self.shapes[blob] = value, shape
            if value in made:
                self.written.append((value, blob, layer.name))

    def _value_info(self, name: str, blob: int) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, self.sizes.described(blob))

    def _name_values(self, blobs: Sequence[str]) -> tuple[list[Any], dict[str, str]]:
        """Give values the blobs' names; the outputs, and what their names stand for where it is not the blob's."""
        made = {value for value, _, _ in self.written}
        names: dict[str, str] = {}
        outputs, renamed = [], {}
        for blob in blobs:
            index, name = self.net.blob_names.index(blob), blob
            value = self.values[index]
            if blob in self.net.inputs or not blob:  # in place, or passed through: ONNX takes a name once
                name = self.graph.unique(f"{blob}/output")
                renamed[OUTPUT_KEY + name] = blob
            if value in made and value not in names and (value in self.graph.wide or not self.graph.half):
                names[value] = name
            else:
                self._pass_on(value, name)
            outputs.append(self._value_info(name, index))
        given = {end.name for end in (*self.inputs, *outputs)}
        for index, value in sorted(self.values.items()):
            blob = self.net.blob_names[index]
            if blob and value in made and value not in names and blob not in given:
                names[value] = blob
                given.add(blob)
        for value, index, layer in self.written:
            if value not in names:
                names[value] = self.graph.unique(f"{self.net.blob_names[index]}/{layer}")
        for node in self.graph.nodes:
            for ends in (node.input, node.output):
                ends[:] = [names.get(end, end) for end in ends]
        return outputs, renamed

    def _pass_on(self, value: str, name: str) -> None:
        """An output that is another value, cast to float32 where that has 16 bits."""
        if value in self.graph.wide or not self.graph.half:
            node = helper.make_node("Identity", [value], [name], self.graph.unique_node(f"{name}/output"))
        else:
            node = helper.make_node(
                "Cast", [value], [name], self.graph.unique_node(f"{name}/output"), to=TensorProto.FLOAT
            )
        self.graph.nodes.append(node)
