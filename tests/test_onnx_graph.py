"""An ONNX graph under construction, run by onnxruntime."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
from caffe_compat.errors import NetError  # noqa: E402
from caffe_compat.onnx_graph import OPSET, OnnxGraph, OnnxStep, Size  # noqa: E402  (needs onnx)

X = np.array([[1.5, -2.0, 3.0], [0.0, 4.0, -1.0]], np.float32)


def evaluate(build: Callable[[OnnxGraph, str], str]) -> np.ndarray:
    """What the graph that ``build(graph, "x")`` makes gives for X."""
    graph = OnnxGraph()
    graph.start_layer("it")
    top = build(graph, "x")
    graph.nodes.append(onnx.helper.make_node("Identity", [top], ["top"]))
    inputs = [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, X.shape)]
    # The element type and shape of the top are left to onnxruntime.
    outputs = [onnx.helper.make_empty_tensor_value_info("top")]
    made = onnx.helper.make_graph(graph.nodes, "g", inputs, outputs, graph.initializers)
    model = onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=8)
    session = onnxruntime.InferenceSession(onnx.shape_inference.infer_shapes(model).SerializeToString())
    (found,) = session.run(["top"], {"x": X})
    return np.asarray(found)


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (lambda g, x: g.scale(x, 2.0), X * 2),
        (lambda g, x: g.shift(x, -1.0), X - 1),
        (lambda g, x: g.shift(g.scale(x, 0.5), 3.0), X / 2 + 3),
        (lambda g, x: g.reshape(x, (3, 2)), X.reshape(3, 2)),
        (lambda g, x: g.reshape(x, (-1,)), X.ravel()),
        (lambda g, x: g.to_index(x), np.array([[1, -2, 3], [0, 4, -1]])),
        (lambda g, x: g.scale(g.to_float(g.to_index(x)), 0.5), np.array([[0.5, -1, 1.5], [0, 2, -0.5]])),
        (lambda g, x: g.add("Add", x, g.constant([1.0, 10.0, 100.0])), X + np.array([1.0, 10.0, 100.0], np.float32)),
        (lambda g, x: g.add("Transpose", x, perm=[1, 0]), X.T),
        (lambda g, x: g.add_many("Split", [x, g.sizes([1, 2])], 2, axis=1)[1], X[:, 1:]),
    ],
)
def test_values(build: Callable[[OnnxGraph, str], str], expected: np.ndarray) -> None:
    found = evaluate(build)
    assert found.shape == expected.shape
    assert np.array_equal(found, expected)
    assert found.dtype == (np.float32 if expected.dtype.kind == "f" else np.int64)


def test_doing_nothing_adds_nothing() -> None:
    graph = OnnxGraph()
    assert graph.scale("x", 1.0) == "x"
    assert graph.shift("x", 0.0) == "x"
    assert graph.nodes == graph.initializers == []


@pytest.mark.parametrize("value", [2, [1.0, 2.0], np.arange(6.0).reshape(2, 3).T, torch.ones(2, requires_grad=True)])
def test_constants(value: object) -> None:
    graph = OnnxGraph()
    name = graph.constant(value)
    (stored,) = graph.initializers
    expected = value.detach().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
    array = onnx.numpy_helper.to_array(stored)
    assert stored.name == name
    assert array.dtype == np.float32
    assert np.array_equal(array, expected)


def test_sizes_are_int64() -> None:
    graph = OnnxGraph()
    graph.sizes((2, -1))
    array = onnx.numpy_helper.to_array(graph.initializers[0])
    assert array.dtype == np.int64
    assert array.tolist() == [2, -1]


def test_names_bear_the_layer_and_never_repeat() -> None:
    graph = OnnxGraph(["a/Add"])
    graph.start_layer("a")
    assert [graph.add("Add", "x", "x"), graph.add("Add", "x", "x"), graph.constant(1)] == [
        "a/Add_2",
        "a/Add_3",
        "a/constant",
    ]
    graph.start_layer("b")
    assert graph.add_many("Split", ["x"], 2) == ["b/Split", "b/Split_2"]
    assert [node.name for node in graph.nodes] == ["a/Add", "a/Add_2", "b/Split"]
    assert graph.unique("") == "unnamed"


def test_a_size_that_the_run_tells() -> None:
    """Written with 0 where the axis stays, with -1 where it is the only one, and computed else."""
    graph = OnnxGraph()
    graph.start_layer("it")
    step = OnnxStep(["x"], [(2, 3)], [], [frozenset({0})])
    assert step.dims() == (Size("x", 0), 3)
    assert (step.varies(0), step.varies(0, [1]), OnnxStep(["x"], [(2, 3)], []).varies(0)) == (True, False, False)
    for shape, written in (([*step.dims(), 1], [0, 3, 1]), ([3, step.size_of(0, 0)], [3, -1])):
        graph.reshape("x", shape)
        assert graph.known(graph.nodes[-1].input[1]).tolist() == written  # type: ignore[union-attr]
    build: Callable[[OnnxGraph, str], str] = lambda g, x: g.reshape(x, [1, Size(x, 1), Size(x, 0)])  # noqa: E731
    assert np.array_equal(evaluate(build), X.reshape(1, 3, 2))


def test_floats_of_16_bits() -> None:
    graph = OnnxGraph(half=True)
    graph.wide.add("x")
    graph.start_layer("narrow")
    cast = graph.read("x")
    assert graph.read("x") == cast != "x"
    assert graph.read("x", index=True) == "x"
    value = graph.known(graph.constant([1.0, -3.4028235e38]))
    assert value is not None
    assert value.dtype == np.float16
    assert value.tolist() == [1.0, -65504.0]
    graph.start_layer("wide", float32=True)
    assert graph.read("x") == "x"
    assert graph.known(graph.constant(1e5)) == 1e5
    graph.make_wide(["y"])
    assert "y" in graph.wide
    graph.start_layer("narrow")
    with pytest.raises(NetError, match='layer "narrow": holds 100000'):
        graph.constant(1e5)
