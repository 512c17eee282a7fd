"""The ONNX form of each layer type; shapes are those of the net at hand."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from caffe_compat.layers.base import Layer, Shape, count
from caffe_compat.layers.shared.geometry import KernelWindow
from caffe_compat.tools._onnx_graph import Converter, LayerStep, OnnxGraph

CONVERTERS: dict[str, Converter] = {}

#: what Caffe's MAX pooling starts from
FLT_MAX = float(np.finfo(np.float32).max)


def converts(*types: str) -> Callable[[Converter], Converter]:
    """Decorator: the function converts these layer types."""

    def add(function: Converter) -> Converter:
        CONVERTERS.update(dict.fromkeys(types, function))
        return function

    return add


def elementwise(layer_type: str, operator: str, attributes: Callable[[Any], dict[str, Any]] = lambda layer: {}) -> None:
    """A layer type that is one ONNX operator of one input."""

    @converts(layer_type)
    def convert(graph: OnnxGraph, step: LayerStep) -> list[str]:
        return [graph.add(operator, step.bottoms[0], **attributes(step.layer))]


elementwise("AbsVal", "Abs")
elementwise("BNLL", "Softplus")
elementwise("ELU", "Elu", lambda layer: {"alpha": layer.alpha})
elementwise("Sigmoid", "Sigmoid")
elementwise("Softmax", "Softmax", lambda layer: {"axis": layer.axis})
elementwise("TanH", "Tanh")


@converts("ReLU")
def relu(graph: OnnxGraph, step: LayerStep) -> list[str]:
    layer: Any = step.layer
    if layer.negative_slope == 0:
        return [graph.add("Relu", step.bottoms[0])]
    return [graph.add("LeakyRelu", step.bottoms[0], alpha=layer.negative_slope)]


@converts("PReLU")
def prelu(graph: OnnxGraph, step: LayerStep) -> list[str]:
    slope = step.layer.blob(0)
    trailing = [1] * (len(step.bottom_shapes[0]) - 2)
    return [graph.add("PRelu", step.bottoms[0], graph.constant(slope.reshape(-1, *trailing)))]


@converts("Clip")
def clip(graph: OnnxGraph, step: LayerStep) -> list[str]:
    layer: Any = step.layer
    # In this order min wins where min > max, as in Caffe.
    below = graph.add("Min", step.bottoms[0], graph.constant(layer.high))
    return [graph.add("Max", below, graph.constant(layer.low))]


@converts("Exp")
def exp(graph: OnnxGraph, step: LayerStep) -> list[str]:
    layer: Any = step.layer
    return [graph.scale(graph.add("Exp", graph.scale(step.bottoms[0], layer.inner)), layer.outer)]


@converts("Log")
def log(graph: OnnxGraph, step: LayerStep) -> list[str]:
    layer: Any = step.layer
    base = graph.shift(graph.scale(step.bottoms[0], layer.scale), layer.shift)
    return [graph.scale(graph.add("Log", base), layer.outer)]


@converts("Power")
def power(graph: OnnxGraph, step: LayerStep) -> list[str]:
    layer: Any = step.layer
    base = graph.shift(graph.scale(step.bottoms[0], layer.scale), layer.shift)
    return [base if layer.power == 1 else graph.add("Pow", base, graph.constant(layer.power))]


@converts("Swish")
def swish(graph: OnnxGraph, step: LayerStep) -> list[str]:
    layer: Any = step.layer
    gate = graph.add("Sigmoid", graph.scale(step.bottoms[0], layer.beta))
    return [graph.add("Mul", step.bottoms[0], gate)]


@converts("Threshold")
def threshold(graph: OnnxGraph, step: LayerStep) -> list[str]:
    layer: Any = step.layer
    above = graph.add("Greater", step.bottoms[0], graph.constant(layer.threshold))
    return [to_float(graph, above)]


def to_float(graph: OnnxGraph, value: str) -> str:
    """Cast to float32 (ONNX's type number 1)."""
    return graph.add("Cast", value, to=1)


def to_index(graph: OnnxGraph, value: str) -> str:
    """Cast to int64 (ONNX's type number 7)."""
    return graph.add("Cast", value, to=7)


@converts("Convolution", "Deconvolution")
def convolution(graph: OnnxGraph, step: LayerStep) -> list[str]:
    layer: Any = step.layer
    if layer.axis != 1 or layer.spatial_axes < 1:
        layer.fail("ONNX convolves over axis 1 and at least one spatial axis only")
    window = layer.window
    parameters = [graph.constant(blob) for blob in layer.blobs]
    return [
        graph.add(
            "Conv" if layer.type == "Convolution" else "ConvTranspose",
            bottom,
            *parameters,
            kernel_shape=window.kernel,
            strides=window.stride,
            pads=[*window.pad, *(window.pad if layer.type == "Deconvolution" else end_pads(step, window))],
            dilations=window.dilation,
            group=layer.group,
        )
        for bottom in step.bottoms
    ]


def end_pads(step: LayerStep, window: KernelWindow) -> list[int]:
    """The pad at each axis' end; more than given where Caffe's one window overhangs a small bottom."""
    sizes, outputs = step.bottom_shapes[0][2:], step.top_shapes[0][2:]
    axes = zip(sizes, outputs, window.extent, window.stride, window.pad, strict=True)
    return [max(pad, (output - 1) * stride + extent - pad - size) for size, output, extent, stride, pad in axes]


@converts("InnerProduct")
def inner_product(graph: OnnxGraph, step: LayerStep) -> list[str]:
    layer: Any = step.layer
    rows = graph.add("Reshape", step.bottoms[0], graph.sizes([-1, layer.inputs]))
    parameters = [graph.constant(blob) for blob in layer.blobs]
    product = graph.add("Gemm", rows, *parameters, transB=0 if layer.transpose else 1)
    return [reshaped(graph, product, step.top_shapes[0])]


def reshaped(graph: OnnxGraph, value: str, shape: Shape) -> str:
    """``value`` with a fixed shape."""
    return graph.add("Reshape", value, graph.sizes(shape))


@converts("Embed")
def embed(graph: OnnxGraph, step: LayerStep) -> list[str]:
    layer: Any = step.layer
    top = graph.add("Gather", graph.constant(layer.blob(0)), to_index(graph, step.bottoms[0]), axis=0)
    return [graph.add("Add", top, graph.constant(layer.blob(1))) if layer.bias_term else top]


@converts("Pooling")
def pooling(graph: OnnxGraph, step: LayerStep) -> list[str]:
    """Pad, then pool without rounding: ONNX's own ceil_mode drops other windows than Caffe."""
    layer: Any = step.layer
    if len(step.top_shapes) > 1:
        layer.fail("the second top (mask) has no ONNX form; remove it")
    if layer.method == "STOCHASTIC":
        layer.fail("STOCHASTIC pooling has no ONNX form")
    sizes, outputs = step.bottom_shapes[0][2:], step.top_shapes[0][2:]
    kernel = sizes if layer.global_pooling else layer.kernel
    ends = [(outputs[i] - 1) * layer.stride[i] + kernel[i] - layer.pad[i] - sizes[i] for i in (0, 1)]
    pads = [0, 0, *layer.pad, 0, 0, *(max(0, end) for end in ends)]
    value = step.bottoms[0]
    if any(pads):
        fill = -FLT_MAX if layer.method == "MAX" else 0.0
        value = graph.add("Pad", value, graph.sizes(pads), graph.constant(fill), mode="constant")
    if layer.method == "MAX":
        return [graph.add("MaxPool", value, kernel_shape=kernel, strides=layer.stride)]
    top = graph.add("AveragePool", value, kernel_shape=kernel, strides=layer.stride)
    correction = average_correction(sizes, outputs, kernel, layer)
    return [top if np.all(correction == 1) else graph.add("Mul", top, graph.constant(correction))]


def average_correction(sizes: Shape, outputs: Shape, kernel: Shape, layer: Any) -> np.ndarray:
    """Kernel area over Caffe's divisor, the window clipped to the padded bottom; (1, 1, H', W')."""
    factors = []
    for i in (0, 1):
        starts = np.arange(outputs[i]) * layer.stride[i] - layer.pad[i]
        lengths = np.minimum(starts + kernel[i], sizes[i] + layer.pad[i]) - starts
        if lengths.min() < 1:
            layer.fail("an AVE window wholly outside the bottom (nan in Caffe) has no ONNX form")
        factors.append(kernel[i] / lengths)
    return np.outer(*factors)[None, None]


@converts("LRN")
def lrn(graph: OnnxGraph, step: LayerStep) -> list[str]:
    layer: Any = step.layer
    if layer.norm_region == "ACROSS_CHANNELS":
        return [
            graph.add("LRN", step.bottoms[0], size=layer.local_size, alpha=layer.alpha, beta=layer.beta, bias=layer.k)
        ]
    pad = layer.local_size // 2
    square = graph.add("Mul", step.bottoms[0], step.bottoms[0])
    mean = graph.add("AveragePool", square, kernel_shape=[layer.local_size] * 2, pads=[pad] * 4, count_include_pad=1)
    scale = graph.add("Pow", graph.shift(graph.scale(mean, layer.alpha), 1.0), graph.constant(-layer.beta))
    return [graph.add("Mul", step.bottoms[0], scale)]


@converts("BatchNorm")
def batch_norm(graph: OnnxGraph, step: LayerStep) -> list[str]:
    layer: Any = step.layer
    if not layer.use_global_stats:
        layer.fail("BatchNorm on the batch's own statistics has no ONNX form; use the TEST phase")
    mean, variance, factor = (blob.detach().double().cpu().numpy() for blob in layer.blobs)
    scale = 0.0 if factor[0] == 0 else 1 / factor[0]
    ones, zeros = np.ones_like(mean), np.zeros_like(mean)
    parameters = [graph.constant(value) for value in (ones, zeros, mean * scale, variance * scale)]
    return [graph.add("BatchNormalization", step.bottoms[0], *parameters, epsilon=layer.eps)]


@converts("Scale", "Bias")
def scale_or_bias(graph: OnnxGraph, step: LayerStep) -> list[str]:
    layer: Any = step.layer
    axes = len(step.bottom_shapes[0])
    operator = "Mul" if layer.type == "Scale" else "Add"
    if len(step.bottoms) == 2:
        other = reshaped(graph, step.bottoms[1], aligned(step.bottom_shapes[1], axes, layer))
    else:
        other = aligned_blob(graph, layer, 0, axes)
    top = graph.add(operator, step.bottoms[0], other)
    if layer.type == "Scale" and layer.bias_term:
        top = graph.add("Add", top, aligned_blob(graph, layer, -1, axes))
    return [top]


def aligned(shape: Shape, axes: int, layer: Any) -> Shape:
    """``shape`` with axes of size 1 appended, to broadcast over ``axes`` axes from layer.axis on."""
    start = layer.axis % axes if shape else 0
    return (*shape, *[1] * (axes - start - len(shape)))


def aligned_blob(graph: OnnxGraph, layer: Layer, index: int, axes: int) -> str:
    """Parameter ``index`` as a constant that broadcasts over the bottom."""
    blob = layer.blob(index)
    return graph.constant(blob.reshape(aligned(tuple(blob.shape), axes, layer)))


@converts("MVN")
def mvn(graph: OnnxGraph, step: LayerStep) -> list[str]:
    layer: Any = step.layer
    value = reshaped(graph, step.bottoms[0], step.top_shapes[0])
    axes = graph.sizes([1, 2, 3] if layer.across_channels else [2, 3])
    centred = graph.add("Sub", value, graph.add("ReduceMean", value, axes))
    if not layer.normalize_variance:
        return [centred]
    variance = graph.add("ReduceMean", graph.add("Mul", centred, centred), axes)
    return [graph.add("Div", centred, graph.shift(graph.add("Sqrt", variance), layer.eps))]


@converts("Dropout")
def dropout(graph: OnnxGraph, step: LayerStep) -> list[str]:
    if step.layer.phase != "TEST":
        step.layer.fail("Dropout in TRAIN has no ONNX form; use the TEST phase")
    return step.bottoms


@converts("Split")
def split(graph: OnnxGraph, step: LayerStep) -> list[str]:
    return step.bottoms * len(step.top_shapes)


@converts("Silence")
def silence(graph: OnnxGraph, step: LayerStep) -> list[str]:
    return []


@converts("Parameter")
def parameter(graph: OnnxGraph, step: LayerStep) -> list[str]:
    return [graph.constant(step.layer.blob(0))]


@converts("Flatten", "Reshape")
def reshape(graph: OnnxGraph, step: LayerStep) -> list[str]:
    return [reshaped(graph, step.bottoms[0], step.top_shapes[0])]


@converts("Concat")
def concat(graph: OnnxGraph, step: LayerStep) -> list[str]:
    layer: Any = step.layer
    return [graph.add("Concat", *step.bottoms, axis=layer.axis)]


@converts("Slice")
def cut(graph: OnnxGraph, step: LayerStep) -> list[str]:
    layer: Any = step.layer
    lengths = [shape[layer.axis] for shape in step.top_shapes]
    inputs = [step.bottoms[0], graph.sizes(lengths)]
    return graph.add_many("Split", inputs, len(lengths), axis=layer.axis)


@converts("Crop")
def crop(graph: OnnxGraph, step: LayerStep) -> list[str]:
    layer: Any = step.layer
    starts = layer.offsets
    axes = range(layer.axis, layer.axis + len(starts))
    ends = [start + step.top_shapes[0][axis] for start, axis in zip(starts, axes, strict=True)]
    return [graph.add("Slice", step.bottoms[0], graph.sizes(starts), graph.sizes(ends), graph.sizes(axes))]


@converts("Tile")
def tile(graph: OnnxGraph, step: LayerStep) -> list[str]:
    layer: Any = step.layer
    repeats = [1] * len(step.bottom_shapes[0])
    repeats[layer.axis] = layer.tiles
    return [graph.add("Tile", step.bottoms[0], graph.sizes(repeats))]


@converts("BatchReindex")
def batch_reindex(graph: OnnxGraph, step: LayerStep) -> list[str]:
    return [graph.add("Gather", step.bottoms[0], to_index(graph, step.bottoms[1]), axis=0)]


@converts("Eltwise")
def eltwise(graph: OnnxGraph, step: LayerStep) -> list[str]:
    layer: Any = step.layer
    if layer.in_place:
        layer.fail("Eltwise in place has no ONNX form; rename the top")
    if layer.operation == "SUM":
        terms = [graph.scale(b, c) for b, c in zip(step.bottoms, layer.coeffs, strict=True)]
        return [graph.add("Sum", *terms)]
    if layer.operation == "MAX":
        return [graph.add("Max", *step.bottoms)]
    top = step.bottoms[0]
    for bottom in step.bottoms[1:]:
        top = graph.add("Mul", top, bottom)
    return [top]


@converts("Reduction")
def reduction(graph: OnnxGraph, step: LayerStep) -> list[str]:
    layer: Any = step.layer
    shape = step.bottom_shapes[0]
    operator = {"SUM": "ReduceSum", "ASUM": "ReduceL1", "SUMSQ": "ReduceSumSquare", "MEAN": "ReduceMean"}
    axes = range(layer.axis % len(shape), len(shape))
    top = graph.add(operator[layer.operation], step.bottoms[0], graph.sizes(axes), keepdims=0)
    return [graph.scale(top, layer.coeff)]


@converts("ArgMax")
def argmax(graph: OnnxGraph, step: LayerStep) -> list[str]:
    layer: Any = step.layer
    if layer.top_k > 1 or layer.out_max_val:
        layer.fail("ArgMax with top_k above 1 or out_max_val has no ONNX form: TopK breaks ties the other way")
    value, axis = step.bottoms[0], layer.axis
    if axis is None:
        shape = step.bottom_shapes[0]
        value, axis = reshaped(graph, value, (shape[0], count(shape, 1))), 1
    found = graph.add("ArgMax", value, axis=axis, keepdims=1, select_last_index=1)
    return [reshaped(graph, to_float(graph, found), step.top_shapes[0])]


@converts("Im2col")
def im2col(graph: OnnxGraph, step: LayerStep) -> list[str]:
    """A convolution with one-hot filters, one for each value of a window."""
    layer: Any = step.layer
    if layer.axis != 1:
        layer.fail("ONNX convolves over axis 1 only")
    channels, window = step.bottom_shapes[0][1], layer.window
    values = math.prod(window.kernel)
    filters = np.tile(np.eye(values).reshape(values, 1, *window.kernel), (channels, 1, *[1] * len(window.kernel)))
    return [
        graph.add(
            "Conv",
            step.bottoms[0],
            graph.constant(filters),
            kernel_shape=window.kernel,
            strides=window.stride,
            pads=[*window.pad, *end_pads(step, window)],
            dilations=window.dilation,
            group=channels,
        )
    ]
