"""Which nodes a net becomes for inference, and the numbers of the folded weights."""

import pytest
import torch
from torch import Tensor

from caffe_compat.layers.base import Layer
from caffe_compat.layers.convolution import Convolution
from caffe_compat.layers.relu import ReLU
from caffe_compat.layers.shared.channel_form import ChannelForm
from caffe_compat.net.folding import ChannelNode, ConvNode, LayerNode, Node, ProductNode, fold
from tests.net.test_inference import (
    INPUT,
    TOLERANCE,
    assert_same,
    conv,
    fc,
    layer,
    make,
    norm,
    random_inputs,
    relu,
)


def nodes(text: str) -> list[Node]:
    return fold(make(INPUT + text).graph).nodes


def kinds(text: str) -> list[str]:
    return [type(node).__name__.removesuffix("Node") for node in nodes(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (conv("c", "x") + norm("n", "c") + relu("c"), ["Conv"]),
        (conv("c", "x") + relu("c") + norm("n", "c"), ["Conv", "Channel"]),
        (conv("c", "x") + relu("c") + norm("n", "c") + conv("d", "c", "kernel_size: 1"), ["Conv", "Conv"]),
        (conv("c", "x") + relu("c") + norm("n", "c") + conv("d", "c"), ["Conv", "Channel", "Conv"]),
        (conv("c", "x", outputs=19) + layer("s", "Eltwise", "x c") + relu("s"), ["Conv"]),
        (conv("c", "x") + conv("d", "x") + layer("s", "Eltwise", "c d") + relu("s"), ["Conv", "Conv"]),
        (conv("c", "x") + layer("s", "Eltwise", "c c"), ["Conv", "Channel"]),
        (conv("c", "x", outputs=19) + relu("c") + layer("s", "Eltwise", "x c") + relu("s"), ["Conv", "Channel"]),
        (fc("f", "x") + layer("b", "Bias", "f", top="f") + relu("f"), ["Product"]),
        (fc("f", "x") + fc("g", "x") + layer("s", "Eltwise", "f g"), ["Product", "Product", "Channel"]),
        (layer("d", "Dropout", "x") + norm("n", "d") + relu("d"), ["Channel"]),
        (conv("c", "x") + layer("t", "TanH", "c", top="c") + relu("c"), ["Conv", "Layer", "Channel"]),
        (layer("p", "Pooling", "x", "pooling_param { kernel_size: 2 }") + layer("l", "LRN", "p"), ["Pool", "Lrn"]),
        (layer("l", "LRN", "x", "lrn_param { norm_region: WITHIN_CHANNEL }"), ["Layer"]),
        (layer("j", "Concat", "x x") + layer("k", "Concat", "j j", "concat_param { axis: 2 }"), ["Concat", "Layer"]),
    ],
)
def test_kinds(text: str, expected: list[str]) -> None:
    assert kinds(text) == expected


def test_an_output_keeps_what_is_behind_it_apart() -> None:
    # "c" is read by its norm, and an output of the net besides, so that both must be there.
    net = make(
        INPUT + conv("c", "x") + norm("n", "c", in_place=False) + layer("s", "Silence", "n").replace('top: "s"', "")
    )
    assert [type(node) for node in fold(net.graph).nodes] == [ConvNode, LayerNode]
    net = make(INPUT + conv("c", "x") + layer("s", "Split", "c").replace('top: "s"', 'top: "u" top: "v"') + relu("u"))
    assert [type(node) for node in fold(net.graph).nodes] == [ConvNode, ChannelNode]


def test_weights() -> None:
    net = make(INPUT + conv("c", "x") + norm("n", "c"))
    (node,) = fold(net.graph).nodes
    assert isinstance(node, ConvNode)
    weight, bias = (blob.detach().double() for blob in net.layers["c"].blobs)
    mean, variance, count = (blob.detach().double() for blob in net.layers["n_bn"].blobs)
    gamma, beta = (blob.detach().double() for blob in net.layers["n_scale"].blobs)
    factor = gamma / torch.sqrt(variance / count + 1e-5)
    close(node.weight, weight * factor[:, None, None, None])
    close(node.bias, (bias - mean / count) * factor + beta)
    assert node.form == ChannelForm()


def test_weights_before_a_convolution() -> None:
    net = make(INPUT + layer("s", "Scale", "x", "scale_param { bias_term: true }") + conv("c", "s", "kernel_size: 3"))
    (node,) = fold(net.graph).nodes
    assert isinstance(node, ConvNode)
    weight, bias = (blob.detach().double() for blob in net.layers["c"].blobs)
    gamma, beta = (blob.detach().double() for blob in net.layers["s"].blobs)
    close(node.weight, weight * gamma[None, :, None, None])
    close(node.bias, bias + torch.einsum("oihw,i->o", weight, beta))


def test_weights_of_an_inner_product() -> None:
    net = make(INPUT + fc("f", "x", "transpose: true") + layer("s", "Scale", "f"))
    (node,) = fold(net.graph).nodes
    assert isinstance(node, ProductNode)
    weight, bias = (blob.detach().double() for blob in net.layers["f"].blobs)
    (gamma,) = (blob.detach().double() for blob in net.layers["s"].blobs)
    close(node.weight, weight.t() * gamma[:, None])
    close(node.bias, bias * gamma)


def close(found: Tensor | None, expected: Tensor) -> None:
    assert found is not None
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=1e-6)


class MinusReLU(ReLU):
    def forward(self, bottom: Tensor) -> Tensor:
        return -super().forward(bottom)


class TwiceConvolution(Convolution):
    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        return tuple(2 * top for top in super().forward(*bottoms))


class NamedConvolution(Convolution):
    """The same under another name."""


@pytest.mark.parametrize(
    ("name", "cls", "expected"),
    [
        ("relu_c", MinusReLU, [ConvNode, LayerNode]),
        ("c", TwiceConvolution, [LayerNode, ChannelNode]),
        ("c", NamedConvolution, [ConvNode]),
    ],
)
def test_a_class_that_computes_something_else_is_not_folded(
    name: str, cls: type[Layer], expected: list[type[Node]]
) -> None:
    net = make(INPUT + conv("c", "x") + relu("c"))
    net.layers[name].__class__ = cls
    assert [type(node) for node in fold(net.graph).nodes] == expected
    assert_same(net, random_inputs(net), TOLERANCE)


def test_shapes_follow_the_sources() -> None:
    folded = fold(make(INPUT + conv("c", "x", "kernel_size: 3 stride: 2") + fc("f", "c")).graph)
    (source,) = folded.sources.values()
    shapes = folded.shapes({source: (2, 19, 9, 11)})
    assert shapes[folded.outputs["f"]] == (2, 35)
    assert (2, 21, 4, 5) in shapes.values()
