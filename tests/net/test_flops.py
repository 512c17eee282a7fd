"""FLOPs of CaffeNet's layers against the arithmetic of its shapes, written out."""

from pathlib import Path

import pytest

from caffe_compat import Net
from caffe_compat.net.flops import forward_flops, training_flops
from caffe_compat.proto import parse_net, read_net

ROOT = Path(__file__).parents[2]
BATCH = 2
#: multiplications of one image: outputs x (inputs of one output)
PRODUCTS = {
    "conv1": 96 * 55 * 55 * (3 * 11 * 11),
    "conv2": 256 * 27 * 27 * (48 * 5 * 5),
    "conv3": 384 * 13 * 13 * (256 * 3 * 3),
    "conv4": 384 * 13 * 13 * (192 * 3 * 3),
    "conv5": 256 * 13 * 13 * (192 * 3 * 3),
    "fc6": 4096 * 9216,
    "fc7": 4096 * 4096,
    "fc8": 1000 * 4096,
}


@pytest.fixture(scope="module")
def caffenet() -> Net:
    param = read_net(ROOT / "prototxt/caffenet/caffenet_train_val.prototxt")
    del param.layer[:2]
    inputs = f"""layer {{ name: "in" type: "Input" top: "data" top: "label"
        input_param {{ shape {{ dim: {BATCH} dim: 3 dim: 227 dim: 227 }} shape {{ dim: {BATCH} }} }} }}"""
    whole = parse_net(inputs)
    whole.layer.extend(param.layer)
    return Net(whole, phase="TRAIN")


def test_forward(caffenet: Net) -> None:
    flops = {step.layer.name: forward_flops(step, caffenet.blob_shapes_in_order) for step in caffenet.steps}
    assert {name: count for name, count in flops.items() if count} == {
        name: 2 * BATCH * count for name, count in PRODUCTS.items()
    }


def test_training_needs_no_gradient_of_the_data(caffenet: Net) -> None:
    flops = {step.layer.name: training_flops(step, caffenet.blob_shapes_in_order) for step in caffenet.steps}
    assert {name: count for name, count in flops.items() if count} == {
        name: 2 * BATCH * count * (2 if name == "conv1" else 3) for name, count in PRODUCTS.items()
    }


def test_below_the_lowest_trained_layer_nothing_flows_back() -> None:
    text = """
    layer { name: "in" type: "Input" top: "x" top: "t" input_param { shape { dim: 5 dim: 7 } shape { dim: 5 dim: 2 } } }
    layer { name: "a" type: "InnerProduct" bottom: "x" top: "a" inner_product_param { num_output: 3 }
            param { lr_mult: 0 } param { lr_mult: 0 } }
    layer { name: "b" type: "InnerProduct" bottom: "a" top: "b" inner_product_param { num_output: 4 } }
    layer { name: "c" type: "InnerProduct" bottom: "b" top: "c" inner_product_param { num_output: 2 }
            param { lr_mult: 0 } param { lr_mult: 0 } }
    layer { name: "loss" type: "EuclideanLoss" bottom: "c" bottom: "t" }
    """
    net = Net(parse_net(text))
    flops = {step.layer.name: training_flops(step, net.blob_shapes_in_order) for step in net.steps}
    assert flops == {
        "in": 0,
        "a": 2 * 5 * 7 * 3,  # forward alone
        "b": 2 * 5 * 3 * 4 * 2,  # and the gradient of its weights
        "c": 2 * 5 * 4 * 2 * 2,  # and that of its bottom
        "loss": 0,
    }
