"""Towers: which layers they take, that they have the numbers of the layers, and what they leave to them."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from caffe_compat import Net
from caffe_compat.net.chains import find_chains
from caffe_compat.net.tower import Tower, find_towers
from caffe_compat.proto import parse_net, read_net

ROOT = Path(__file__).parents[2]
NET = """
layer { name: "in" type: "Input" top: "data" top: "label"
        input_param { shape { dim: 3 dim: 3 dim: 39 dim: 35 } shape { dim: 3 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
        convolution_param { num_output: 16 kernel_size: 5 stride: 2 weight_filler { type: "xavier" } bias_filler { value: 0.1 } } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1" pooling_param { pool: MAX kernel_size: 3 stride: 2 } }
layer { name: "norm1" type: "LRN" bottom: "pool1" top: "norm1" lrn_param { local_size: 5 alpha: 0.1 } }
layer { name: "conv2" type: "Convolution" bottom: "norm1" top: "conv2"
        convolution_param { num_output: 32 pad: 2 kernel_size: 5 group: 2 weight_filler { type: "xavier" } } }
layer { name: "relu2" type: "ReLU" bottom: "conv2" top: "conv2" }
layer { name: "conv3" type: "Convolution" bottom: "conv2" top: "conv3"
        convolution_param { num_output: 16 pad: 1 kernel_size: 3 weight_filler { type: "xavier" } bias_term: false } }
layer { name: "conv4" type: "Convolution" bottom: "conv3" top: "conv4"
        convolution_param { num_output: 16 pad: 1 kernel_size: 3 group: 2 weight_filler { type: "xavier" } } }
layer { name: "norm4" type: "LRN" bottom: "conv4" top: "norm4" lrn_param { local_size: 3 alpha: 0.1 } }
layer { name: "pool4" type: "Pooling" bottom: "norm4" top: "pool4" pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
layer { name: "ip" type: "InnerProduct" bottom: "pool4" top: "ip" inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
"""  # noqa: E501
TOLERANCE = 1e-5  # float32, relative to the largest value: sums in another order, through a whole net


def towers(net: Net) -> list[list[str]]:
    return [
        [step.layer.name for step in unit.steps]
        for unit in find_towers(find_chains(net.steps))
        if isinstance(unit, Tower)
    ]


@pytest.fixture
def everywhere(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Towers run on the CPU, too, where their operators are PyTorch's; the shapes of their bottoms."""
    seen: list[tuple[int, ...]] = []
    compute = Tower.compute

    def noted(tower: Tower, bottom: Tensor, dtype: torch.dtype) -> Tensor:
        seen.append(tuple(bottom.shape))
        return compute(tower, bottom, dtype)

    monkeypatch.setattr("caffe_compat.net.tower.DEVICES", ("cuda", "meta", "cpu"))
    monkeypatch.setattr("caffe_compat.net.net.TOWER_DEVICES", ("cuda", "meta", "cpu"))
    monkeypatch.setattr(Tower, "compute", noted)
    return seen


def outputs_and_gradients(net: Net, data: Tensor) -> list[Tensor]:
    net.zero_grad()
    _, loss = net.forward_with_loss(data=data, label=torch.arange(len(data)).float())
    loss.backward()
    return [loss.detach(), *(p.grad.clone() for p in net.parameters() if p.grad is not None)]


def assert_equal_numbers(actual: list[Tensor], expected: list[Tensor]) -> None:
    for a, b in zip(actual, expected, strict=True):
        assert (a - b).abs().max() <= TOLERANCE * b.abs().max()


def make_net(text: str = NET) -> tuple[Net, Tensor]:
    torch.manual_seed(4)
    net = Net(parse_net(text), phase="TRAIN")
    return net, torch.randn(net.blob_shapes["data"], generator=torch.Generator().manual_seed(1))


def test_a_tower_has_the_numbers_of_its_layers(everywhere: list[tuple[int, ...]]) -> None:
    net, data = make_net()
    assert towers(net) == [["conv1", "relu1", "pool1", "norm1", "conv2", "relu2", "conv3", "conv4", "norm4", "pool4"]]
    expected = outputs_and_gradients(net, data)
    net.fast = True
    assert_equal_numbers(outputs_and_gradients(net, data), expected)
    assert everywhere == [(3, 3, 39, 35)]
    other = data[:2]
    net.fast = False
    expected = outputs_and_gradients(net, other)
    net.fast = True
    assert_equal_numbers(outputs_and_gradients(net, other), expected)
    assert everywhere[-1] == (2, 3, 39, 35)


@pytest.mark.parametrize("frozen", ["conv1", "conv2", "conv3"])
def test_frozen_layers_get_no_gradient_and_those_behind_the_same(
    frozen: str, everywhere: list[tuple[int, ...]]
) -> None:
    """As when the first layers of a network are copied and kept: param { lr_mult: 0 }."""
    text, kept = NET, ["conv1", "conv2", "conv3"]
    for name in kept[: kept.index(frozen) + 1]:
        blobs = 1 if name == "conv3" else 2  # conv3 has no bias
        text = text.replace(
            f'top: "{name}"\n        conv', f'top: "{name}" {"param { lr_mult: 0 } " * blobs}\n        conv'
        )
    net, data = make_net(text)
    net.graph.skip_backward()
    expected = outputs_and_gradients(net, data)
    net.fast = True
    assert_equal_numbers(outputs_and_gradients(net, data), expected)
    assert everywhere
    assert net.params[frozen][0].grad is None
    assert net.params["conv4"][0].grad is not None


def test_images_that_want_a_gradient_get_it(everywhere: list[tuple[int, ...]]) -> None:
    net, data = make_net()
    inputs = [data.clone().requires_grad_() for _ in range(2)]
    net.forward_with_loss(data=inputs[0])[1].backward()
    net.fast = True
    net.forward_with_loss(data=inputs[1])[1].backward()
    assert everywhere
    assert inputs[0].grad is not None
    assert inputs[1].grad is not None
    assert_equal_numbers([inputs[1].grad], [inputs[0].grad])


def test_blobs_inside_come_from_the_chains(everywhere: list[tuple[int, ...]]) -> None:
    net, data = make_net()
    expected = net.extract(["norm1", "conv3"], data=data)
    net.fast = True
    found = net.extract(["norm1", "conv3"], data=data)
    assert not everywhere
    assert_equal_numbers(list(found.values()), list(expected.values()))


def test_a_hook_sees_its_layer(everywhere: list[tuple[int, ...]]) -> None:
    net, data = make_net()
    seen: list[tuple[int, ...]] = []
    net.fast = True
    handle = net.layers["conv3"].register_forward_hook(lambda layer, inputs, output: seen.append(inputs[0].shape))
    net(data=data)
    assert len(seen) == 1
    assert not everywhere
    handle.remove()
    net(data=data)
    assert len(everywhere) == 1


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        # eight channels of a group at a time
        (("num_output: 32 pad: 2", "num_output: 24 pad: 2"),
         [["conv1", "relu1", "pool1", "norm1"], ["conv3", "conv4", "norm4", "pool4"]]),
        (("group: 2 weight_filler", "engine: CAFFE group: 2 weight_filler"),
         [["conv1", "relu1", "pool1", "norm1"], ["conv3"]]),
        (("local_size: 5", "local_size: 7"),
         [["conv1", "relu1", "pool1", "norm1", "conv2", "relu2", "conv3", "conv4", "norm4", "pool4"]]),
        (('"ReLU" bottom: "conv2" top: "conv2"', '"Sigmoid" bottom: "conv2" top: "conv2"'),
         [["conv1", "relu1", "pool1", "norm1", "conv2"], ["conv3", "conv4", "norm4", "pool4"]]),
        (("pool: MAX kernel_size: 3", "pool: AVE kernel_size: 3"),
         [["conv1", "relu1"], ["conv2", "relu2", "conv3", "conv4", "norm4", "pool4"]]),
    ],
)  # fmt: skip
def test_where_towers_end(
    change: tuple[str, str], expected: list[list[str]], everywhere: list[tuple[int, ...]]
) -> None:
    assert change[0] in NET
    net, data = make_net(NET.replace(*change))
    assert towers(net) == expected
    plain = outputs_and_gradients(net, data)
    net.fast = True
    assert_equal_numbers(outputs_and_gradients(net, data), plain)
    assert len(everywhere) == len(expected)


def test_sizes_that_do_not_fit_run_layer_by_layer(everywhere: list[tuple[int, ...]]) -> None:
    net, data = make_net()
    net.fast = True
    net.to(torch.float64)
    net(data=data.double())
    assert not everywhere


def test_caffenet() -> None:
    (tower,) = towers(Net(read_net(ROOT / "prototxt/caffenet/caffenet_deploy.prototxt")))
    assert " ".join(tower) == (
        "conv1 relu1 pool1 norm1 conv2 relu2 pool2 norm2 conv3 relu3 conv4 relu4 conv5 relu5 pool5"
    )


def test_tensors_without_memory_run_as_on_cuda() -> None:
    net, data = make_net()
    net.fast = True
    net.to("meta")
    assert net(data=data.to("meta"))["loss"].shape == ()
