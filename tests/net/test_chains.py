"""Fast mode: the chains it finds, and that it has the numbers of the layer-by-layer mode."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from caffe_compat import Net
from caffe_compat.net.chains import Chain, find_chains
from caffe_compat.proto import parse_net

ROOT = Path(__file__).parents[2]
GOLDEN_NETS = sorted(path.parent for path in (ROOT / "tests" / "golden" / "nets").glob("*/case.json"))
FLOAT32_TOLERANCE = 2e-5  # relative to the largest value: sums in another order, through a whole net

INPUT = 'layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 3 dim: 7 dim: 11 dim: 10 } } }\n'
RELU = 'layer { name: "relu" type: "ReLU" bottom: "data" top: "data" }\n'
POOL = (
    'layer { name: "pool" type: "Pooling" bottom: "data" top: "pool" '
    "pooling_param { pool: MAX kernel_size: 3 stride: 2 } }\n"
)
LRN = 'layer { name: "norm" type: "LRN" bottom: "pool" top: "norm" lrn_param { local_size: 3 alpha: 0.5 } }\n'


def chains(net: Net) -> list[list[str]]:
    """The names of the layers of each chain."""
    return [[step.layer.name for step in unit.steps] for unit in find_chains(net.steps) if isinstance(unit, Chain)]


def golden_net(case: Path, dtype: torch.dtype) -> tuple[Net, dict[str, Tensor]]:
    """The net of a golden case with its parameters, and its inputs."""
    meta = json.loads((case / "case.json").read_text())
    net = Net(
        case / "net.prototxt",
        phase=meta["phase"],
        level=meta.get("level", 0),
        stages=meta.get("stages", ()),
        dtype=dtype,
    )
    blobs = {}
    for key, value in np.load(case / "inputs.npz").items():
        kind, name, *index = key.split(":")
        if kind == "blob":
            blobs[name] = torch.from_numpy(value)
        elif kind == "param":
            net.params[name][int(index[0])].data.copy_(torch.from_numpy(value))
    return net, blobs


def pass_through(net: Net, blobs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Outputs, loss and the gradients of all parameters."""
    torch.manual_seed(0)  # dropout
    net.zero_grad()
    outputs, loss = net.forward_with_loss(**blobs)
    if loss.requires_grad:
        loss.backward()
    gradients = {
        f"{layer} {i}": p.grad.clone()
        for layer, params in net.params.items()
        for i, p in enumerate(params)
        if p.grad is not None
    }
    return {**{name: value.detach() for name, value in outputs.items()}, "(loss)": loss.detach(), **gradients}


def equal_or_nan(a: Tensor, b: Tensor) -> bool:
    return torch.equal(a.nan_to_num(7.5), b.nan_to_num(7.5))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", GOLDEN_NETS, ids=lambda path: path.name)
def test_fast_equals_plain(case: Path) -> None:
    for dtype in (torch.float64, torch.float32):
        net, blobs = golden_net(case, dtype)
        plain = pass_through(net, blobs)
        net.fast = True
        fast = pass_through(net, blobs)
        assert fast.keys() == plain.keys()
        for name, expected in plain.items():
            if dtype == torch.float64:  # the same kernels and sums
                assert equal_or_nan(fast[name], expected), name
            else:
                scale = expected.abs().max().clamp(min=1e-6)
                assert ((fast[name] - expected).abs() <= FLOAT32_TOLERANCE * scale).all(), name


def test_caffenets_chains() -> None:
    net = Net(ROOT / "prototxt" / "caffenet" / "caffenet_deploy.prototxt", phase="TEST", fast=True)
    found = chains(net)
    assert ["relu1", "pool1", "norm1"] in found
    assert ["relu2", "pool2", "norm2"] in found
    assert ["relu5", "pool5"] in found
    assert ["fc6", "relu6", "drop6"] in found
    assert ["fc8"] in found


def test_alexnets_chains() -> None:
    net = Net(ROOT / "prototxt" / "alexnet" / "alexnet_deploy.prototxt", phase="TEST", fast=True)
    assert not [names for names in chains(net) if "norm1" in names]  # LRN before pooling: no chain
    assert ["relu5", "pool5"] in chains(net)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (RELU + POOL + LRN, [["relu", "pool", "norm"]]),
        (POOL + LRN, [["pool", "norm"]]),
        (RELU + POOL, [["relu", "pool"]]),
        (POOL + RELU.replace("data", "pool") + LRN, [["pool", "relu", "norm"]]),
        (POOL, []),
        (POOL.replace("MAX", "AVE") + LRN, []),
        (RELU.replace("top:", "relu_param { negative_slope: 0.1 } top:") + POOL, []),
        (POOL + LRN.replace("alpha", "norm_region: WITHIN_CHANNEL alpha"), []),
        (POOL + LRN.replace("alpha", "engine: CUDNN alpha"), []),
        (POOL.replace("stride: 2", "stride: 2 engine: CUDNN") + LRN, []),
        # somebody else reads the pooled blob too: the Split stands between
        (POOL + LRN + 'layer { name: "s" type: "Silence" bottom: "pool" }', []),
        (POOL.replace('top: "pool"', 'top: "pool" loss_weight: 1') + LRN, []),
    ],
)
def test_what_is_a_chain(text: str, expected: list[list[str]]) -> None:
    net = Net(parse_net(INPUT + text), fast=True)
    assert chains(net) == expected
    x = torch.randn(3, 7, 11, 10)
    fast = net(data=x)
    net.fast = False
    plain = net(data=x)
    assert all(torch.equal(fast[name], plain[name]) for name in plain)


def test_blobs_inside_a_chain_are_there_when_asked_for() -> None:
    net = Net(parse_net(INPUT + RELU + POOL + LRN), fast=True)
    x = torch.randn(3, 7, 11, 10)
    blobs = net.extract(["data", "pool", "norm"], data=x)
    assert torch.equal(blobs["data"], x.relu())
    assert torch.equal(blobs["pool"], torch.nn.functional.max_pool2d(x.relu(), 3, 2, ceil_mode=True))
    assert torch.equal(blobs["norm"], net(data=x)["norm"])


def test_hooks_see_every_layer() -> None:
    net = Net(parse_net(INPUT + RELU + POOL + LRN), fast=True)
    seen = []
    net.layers["pool"].register_forward_hook(lambda layer, bottoms, top: seen.append(top.shape))
    net(data=torch.randn(3, 7, 11, 10))
    assert seen == [(3, 7, 5, 5)]


def test_a_window_outside_the_bottom_runs_layer_by_layer() -> None:
    text = INPUT + POOL.replace("kernel_size: 3 stride: 2", "kernel_size: 1 stride: 8") + LRN
    net = Net(parse_net(text), fast=True)
    x = torch.randn(3, 7, 11, 10)
    fast = net(data=x)["norm"]  # the second window starts at column 8, the third would at 16
    net.fast = False
    assert torch.equal(fast, net(data=x)["norm"])


def test_a_copy_runs_its_own_layers() -> None:
    net = Net(
        parse_net(
            INPUT + 'layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc" '
            'inner_product_param { num_output: 2 weight_filler { type: "xavier" } } }'
        ),
        fast=True,
    )
    x = torch.randn(3, 7, 11, 10)
    before = net(data=x)["fc"]
    other = copy.deepcopy(net)
    with torch.no_grad():
        other.layers["fc"].blobs[0].zero_()
    assert torch.equal(other(data=x)["fc"], torch.zeros(3, 2))
    assert torch.equal(net(data=x)["fc"], before)


def test_new_shapes_and_channels_last() -> None:
    net = Net(parse_net(INPUT + RELU + POOL + LRN), fast=True)
    for shape in ((1, 7, 5, 6), (2, 7, 12, 9)):
        x = torch.randn(shape).contiguous(memory_format=torch.channels_last)
        fast = net(data=x)["norm"]
        net.fast = False
        assert torch.equal(fast, net(data=x)["norm"])
        net.fast = True


def test_what_is_detached_stays_so() -> None:
    text = INPUT.replace("Input", "DummyData").replace("input_param", "dummy_data_param")
    ip = 'inner_product_param { num_output: 3 weight_filler { type: "xavier" } }'
    text += f'layer {{ name: "a" type: "InnerProduct" bottom: "data" top: "a" {ip} }}\n'
    text += 'layer { name: "r" type: "ReLU" bottom: "a" top: "r" propagate_down: false }\n'
    text += f'layer {{ name: "b" type: "InnerProduct" bottom: "r" top: "b" loss_weight: 1 {ip} }}\n'
    net = Net(parse_net(text), fast=True)
    _, loss = net.forward_with_loss()
    loss.backward()
    assert net.layers["a"].weight.grad is None
    assert net.layers["b"].weight.grad is not None
