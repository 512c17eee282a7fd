"""A net as an ONNX model, layer by layer (``Layer.to_onnx``)."""

from typing import Any

import onnx
from onnx import TensorProto, helper

from caffe_compat import __version__
from caffe_compat.errors import NetError
from caffe_compat.layers.base import Layer
from caffe_compat.net import Net
from caffe_compat.onnx_graph import OPSET, OnnxGraph, OnnxStep
from caffe_compat.tools._exported import OUTPUT_KEY


def has_onnx_form(layer: Layer) -> bool:
    """Whether the layer's type can be written; a layer of it may still refuse, by its fields."""
    return type(layer).to_onnx is not Layer.to_onnx


def to_onnx(net: Net) -> Any:
    """The ModelProto of a TEST net: its Input blobs are the inputs, its outputs the outputs, both
    at the present shapes.  An output that has an input's name gets another, which the model's metadata tells
    (``OUTPUT_KEY``).  NetError names every layer whose type has no ONNX form."""
    unknown = [step.layer for step in net.steps if not (step.layer.is_input or has_onnx_form(step.layer))]
    if unknown:
        named = ", ".join(f'"{layer.name}" ({layer.type})' for layer in unknown)
        raise NetError(
            f"{net.source}: no ONNX form for layer {named}; convert a deploy net, without data and loss layers"
        )
    graph = OnnxGraph(net.blob_names)
    shapes = net.blob_shapes_in_order
    values: dict[int, str] = {}
    inputs = []
    for step in net.steps:
        if step.layer.is_input:
            for i in step.tops:
                values[i] = net.blob_names[i]
                inputs.append(helper.make_tensor_value_info(net.blob_names[i], TensorProto.FLOAT, shapes[i]))
            continue
        graph.start_layer(step.layer.name)
        bottom_shapes, top_shapes = ([shapes[i] for i in blobs] for blobs in (step.bottoms, step.tops))
        tops = step.layer.to_onnx(graph, OnnxStep([values[i] for i in step.bottoms], bottom_shapes, top_shapes))
        values.update(zip(step.tops, tops, strict=True))
    outputs, renamed = [], {}
    for blob in net.outputs:
        index, name = net.blob_names.index(blob), blob
        if blob in net.inputs:  # read and written in place, or passed through: ONNX takes one name once
            graph.start_layer(blob)
            name = graph.new_name()
            renamed[OUTPUT_KEY + name] = blob
        if values[index] != name:
            graph.nodes.append(helper.make_node("Identity", [values[index]], [name]))
        outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shapes[index]))
    model = helper.make_model(
        helper.make_graph(graph.nodes, net.name or "net", inputs, outputs, graph.initializers),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=min(10, onnx.IR_VERSION),  # readers lag behind the newest
        producer_name="caffe_compat",
        producer_version=__version__,
    )
    helper.set_model_props(model, renamed)
    return model
