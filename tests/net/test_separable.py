"""Depthwise and 1x1 convolutions as one node: which become one, and that the numbers stay."""

import pytest
import torch

from caffe_compat import Net
from caffe_compat.net.folding import ConvNode, Node, fold
from caffe_compat.net.separable import FEWEST_CHANNELS, SeparableNode, pair_separable
from tests.net.test_inference import INPUT, TOLERANCE, assert_same, conv, layer, make, norm, random_inputs, relu
from tests.net.test_inference_program import needs_kernels

WIDE = INPUT.replace("dim: 19", f"dim: {FEWEST_CHANNELS + 6}").replace("dim: 9 dim: 11", "dim: 19 dim: 13")
CHANNELS = FEWEST_CHANNELS + 6


def depthwise(name: str, bottom: str, fields: str = "kernel_size: 3 pad: 1", channels: int = CHANNELS) -> str:
    return conv(name, bottom, f"{fields} group: {channels}", channels)


def point(name: str, bottom: str, fields: str = "kernel_size: 1", outputs: int = 40) -> str:
    return conv(name, bottom, fields, outputs)


@pytest.fixture(autouse=True)
def two_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.get_num_threads", lambda: 2)


PAIR = depthwise("a", "x") + point("b", "a")
APART = {
    "few channels": (INPUT, depthwise("a", "x", channels=19) + point("b", "a")),
    "another reads the blob between": (WIDE, PAIR + point("c", "a")),
    "the caller reads the blob between": (WIDE, depthwise("a", "x") + point("b", "a")),
    "a stride of the second": (WIDE, depthwise("a", "x") + point("b", "a", "kernel_size: 1 stride: 2")),
    "padding of the second": (WIDE, depthwise("a", "x") + point("b", "a", "kernel_size: 1 pad: 1")),
    "a larger second kernel": (WIDE, depthwise("a", "x") + point("b", "a", "kernel_size: 3")),
    "groups of the second": (WIDE, depthwise("a", "x") + point("b", "a", "kernel_size: 1 group: 2")),
    "two outputs for each channel": (
        WIDE,
        conv("a", "x", f"kernel_size: 3 group: {CHANNELS}", 2 * CHANNELS) + point("b", "a"),
    ),
}


def nodes_of(net: Net, between_too: bool = False) -> list[Node]:
    folded = fold(net.graph)
    shapes = folded.shapes(
        {value: net.blob_shapes[name] for name, value in zip(net.inputs, folded.sources.values(), strict=True)}
    )
    outputs = [*folded.outputs.values()]
    if between_too:
        outputs.append(next(node.output for node in folded.nodes if isinstance(node, ConvNode)))
    return pair_separable(folded.nodes, shapes, outputs)


def test_a_pair_becomes_one_node() -> None:
    nodes = nodes_of(make(WIDE + depthwise("a", "x") + norm("n", "a") + relu("a") + point("b", "a") + relu("b")))
    assert [type(node) for node in nodes] == [SeparableNode]


@pytest.mark.parametrize("why", APART)
def test_others_stay_apart(why: str) -> None:
    head, rest = APART[why]
    nodes = nodes_of(make(head + rest), between_too=why.startswith("the caller"))
    assert not any(isinstance(node, SeparableNode) for node in nodes)


def test_small_images_stay_apart() -> None:
    """Threads would have nothing to share out."""
    assert len(nodes_of(make(WIDE.replace("dim: 19 dim: 13", "dim: 3 dim: 3") + PAIR))) == 2


@needs_kernels
@pytest.mark.parametrize(
    "fields", ["kernel_size: 3 pad: 1", "kernel_size: 3 pad: 1 stride: 2", "kernel_size: 5 pad: 3 dilation: 2"]
)
def test_numbers_of_the_plain_net(fields: str) -> None:
    """With BatchNorm and PReLU between the two, a sum and ReLU behind them, and an odd number of rows."""
    text = (
        WIDE
        + depthwise("a", "x", fields)
        + norm("n", "a")
        + layer("p", "PReLU", "a", top="a")
        + point("b", "a")
        + point("c", "x", "kernel_size: 1" + " stride: 2" * ("stride" in fields) + " pad: 0")
    )
    if "5" not in fields:
        text += layer("sum", "Eltwise", "b c") + relu("sum")
    net = make(text)
    assert any(isinstance(node, SeparableNode) for node in nodes_of(net))
    assert_same(net, random_inputs(net), TOLERANCE)


def test_by_pytorch_s_operators() -> None:
    net = make(WIDE + PAIR)
    (pair,) = nodes_of(net)
    assert isinstance(pair, SeparableNode)
    x = torch.randn(net.blob_shapes["x"])
    with torch.no_grad():
        values = {pair.inputs[0]: x}
        pair.run(values)
        assert (values[pair.output] - net(x=x)["b"]).abs().max() < 1e-5
