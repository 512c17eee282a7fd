"""debug_info: the same gradients, and Caffe's lines on every blob."""

import io

import pytest
import torch

from caffe_compat.net import Net
from caffe_compat.proto import parse_net
from caffe_compat.solver import Log
from caffe_compat.solver.debug_info import DebugPass
from tests.solver.conftest import MakeSolver, messages, weights


def test_debug_info_makes_the_same_gradients(make_solver: MakeSolver) -> None:
    stream = io.StringIO()
    plain = make_solver(display=1, test_interval=0, test_iter=[])
    plain.step(2)
    debug = make_solver(display=1, debug_info=True, test_interval=0, test_iter=[], log=Log(stream))
    debug.step(2)
    lines = messages(stream)
    assert any(line.startswith("    [Forward] Layer conv, top blob conv data: ") for line in lines)
    assert any(line.startswith("    [Forward] Layer conv, param blob 1 data: ") for line in lines)
    assert any(line.startswith("    [Backward] Layer ip, bottom blob conv diff: ") for line in lines)
    assert any(line.startswith("    [Backward] Layer ip, param blob 0 diff: ") for line in lines)
    assert sum("[Backward] All net params (data, diff): L1 norm = (" in line for line in lines) == 2
    for a, b in zip(weights(plain), weights(debug), strict=True):
        assert a == pytest.approx(b, rel=1e-5, abs=1e-6)


def test_means_and_norms_by_hand() -> None:
    """x = (1, -3), w = (2, 4): y = -10; loss = y^2 / 2 = 50 with gradients -10 for y, (-10, 30) for w."""
    net = Net(
        parse_net(
            'layer { name: "in" type: "Input" top: "x" top: "t" '
            "input_param { shape { dim: 1 dim: 2 } shape { dim: 1 dim: 1 } } }"
            'layer { name: "fc" type: "InnerProduct" bottom: "x" top: "y" '
            "inner_product_param { num_output: 1 bias_term: false } }"
            'layer { name: "loss" type: "EuclideanLoss" bottom: "y" bottom: "t" top: "loss" }'
        )
    )
    with torch.no_grad():
        net.layers["fc"].blobs[0].copy_(torch.tensor([[2.0, 4.0]]))
    stream = io.StringIO()
    debug = DebugPass(net, Log(stream))
    debug.engine.blobs[net.blob_names.index("x")].data.copy_(torch.tensor([[1.0, -3.0]]))
    outputs, loss = debug.run()
    assert float(loss) == 50.0
    assert float(outputs["loss"]) == 50.0
    gradient = net.layers["fc"].blobs[0].grad
    assert gradient is not None
    assert gradient.tolist() == [[-10.0, 30.0]]
    assert messages(stream) == [
        "    [Forward] Layer in, top blob x data: 2",
        "    [Forward] Layer in, top blob t data: 0",
        "    [Forward] Layer fc, top blob y data: 10",
        "    [Forward] Layer fc, param blob 0 data: 3",
        "    [Forward] Layer loss, top blob loss data: 50",
        "    [Backward] Layer loss, bottom blob y diff: 10",
        "    [Backward] Layer fc, param blob 0 diff: 20",
        "    [Backward] All net params (data, diff): L1 norm = (6, 40); L2 norm = (4.47214, 31.6228)",
    ]


def test_parameters_of_layers_with_one_name_keep_their_own() -> None:
    size = "inner_product_param {{ num_output: 2 }}"
    layer = 'layer {{ name: "c" type: "InnerProduct" bottom: "{}" top: "{}" {} ' + size + " }}"
    net = Net(
        parse_net(
            'layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 1 dim: 2 } } }'
            + layer.format("x", "y", 'param { name: "w" } param { name: "b" }')
            + layer.format("y", "z", 'param { name: "v" }')
        )
    )
    stream = io.StringIO()
    DebugPass(net, Log(stream)).run()
    assert [line.split(" data")[0] for line in messages(stream) if ", param blob" in line] == [
        f"    [Forward] Layer c, param blob {name}" for name in ("w", "b", "v", "1")
    ]
