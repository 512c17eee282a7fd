"""A block as a layer gives what torchvision's own network gives: values, gradients, running averages."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

from caffe_compat import Net
from caffe_compat.errors import DataError, NetError
from caffe_compat.proto import caffe_pb2
from caffe_compat.random import CaffeGenerator, scope
from reproduce.torchvision_blocks import TorchvisionBlock, blocks_of

SIZE_PX, BATCH, SEED = 32, 4, 3
RESNET18 = ("conv1", "layer1.0", "layer1.1", "layer2.0", "layer2.1", "layer3.0", "layer3.1", "layer4.0", "layer4.1")


def net_of(model: str, names: tuple[str, ...], phase: str = "TRAIN", frozen: int = 0) -> Net:
    """The first blocks of a network on 32-pixel images, weights by ``SEED``; the first ``frozen`` of them frozen."""
    message = caffe_pb2.NetParameter()
    source = message.layer.add(name="data", type="Input", top=["data"])
    source.input_param.shape.add(dim=[BATCH, 3, SIZE_PX, SIZE_PX])
    bottom = "data"
    for number, name in enumerate(names):
        layer = message.layer.add(name=name, type="TorchvisionBlock", bottom=[bottom], top=[name])
        layer.python_param.module, layer.python_param.layer = model, name
        if number < frozen:
            for key in blocks_of(model).blocks[number].module.state_dict():
                if not key.endswith("num_batches_tracked"):
                    layer.param.add(lr_mult=0, decay_mult=0)
        bottom = name
    with scope(SEED):
        return Net(message, phase=phase)


def layer_of(net: Net, name: str) -> Any:
    return net.get_submodule(name.replace(".", "_"))


@pytest.fixture(scope="module")
def network() -> Any:
    """torchvision's own, with the weights that one draw of Caffe's stream gives."""
    torch.manual_seed(CaffeGenerator(SEED).raw())
    made = models.resnet18(weights=None)
    made.fc, made.avgpool = nn.Identity(), nn.Identity()
    return made


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(BATCH, 3, SIZE_PX, SIZE_PX, generator=torch.Generator().manual_seed(0))


def test_values_gradients_and_running_averages_are_torchvisions(network: Any, images: Tensor) -> None:
    net = net_of("resnet18", RESNET18[:4])
    ours = net(data=images)["layer2.0"]
    x = network.maxpool(network.relu(network.bn1(network.conv1(images))))
    theirs = network.layer2[0](network.layer1(x))
    assert torch.equal(ours, theirs)
    ours.square().sum().backward()
    theirs.square().sum().backward()
    block = layer_of(net, "layer2.0")
    names = [name for name, _ in network.layer2[0].named_parameters()]
    for blob, name in zip(block.blobs, names, strict=False):
        assert torch.equal(blob.grad, network.layer2[0].get_parameter(name).grad), name
    averages = dict(zip(block.blob_names, block.blobs, strict=True))
    assert torch.equal(averages["layer2_0_bn1_running_mean"], network.layer2[0].bn1.running_mean)
    assert torch.equal(averages["layer2_0_downsample_1_running_var"], network.layer2[0].downsample[1].running_var)
    assert not torch.equal(network.layer2[0].bn1.running_mean, torch.zeros(128))


def test_a_frozen_block_normalises_by_its_averages_and_leaves_them(images: Tensor) -> None:
    free, frozen = net_of("resnet18", RESNET18[:2]), net_of("resnet18", RESNET18[:2], frozen=1)
    tested = net_of("resnet18", RESNET18[:1], phase="TEST")
    before = [blob.clone() for blob in layer_of(frozen, "conv1").blobs]
    frozen(data=images)
    assert torch.equal(frozen.extract(["conv1"], data=images)["conv1"], tested(data=images)["conv1"])
    assert not torch.equal(frozen.extract(["conv1"], data=images)["conv1"], free(data=images)["layer1.0"])
    assert all(torch.equal(old, new) for old, new in zip(before, layer_of(frozen, "conv1").blobs, strict=True))
    assert layer_of(frozen, "layer1.0").block.training
    assert not layer_of(frozen, "conv1").block.training


def test_what_drops_draws_from_caffes_stream() -> None:
    message = caffe_pb2.LayerParameter(name="x", type="TorchvisionBlock", bottom=["a"], top=["b"])
    message.python_param.module, message.python_param.layer = "mobilenet_v3_small", "classifier.0"
    layer = TorchvisionBlock(message)
    layer.setup((50, 576))
    below = torch.randn(50, 576, generator=torch.Generator().manual_seed(0))
    with scope(1):
        once, other = layer(below), layer(below)
    with scope(1):
        again = layer(below)
    assert torch.equal(once, again)
    assert not torch.equal(once, other)
    whole = layer.eval()(below)
    assert torch.allclose(once, torch.where(once == 0, 0, whole / 0.8))
    assert 0.18 < ((once == 0) & (whole != 0)).sum() / (whole != 0).sum() < 0.22


def test_how_networks_come_apart() -> None:
    found = blocks_of("resnet18")
    assert tuple(block.name for block in found.blocks) == RESNET18
    assert (found.classifier, found.inputs, found.bias) == ("fc", 512, True)
    message = caffe_pb2.LayerParameter(name="x", type="TorchvisionBlock", bottom=["a"], top=["b"])
    message.python_param.module, message.python_param.layer = "resnet18", "layer2.0"
    layer = TorchvisionBlock(message)
    layer.setup((2, 64, 8, 8))
    # a 3x3 convolution of stride 2, a second one, and the 1x1 one of the short way
    assert layer.flops([(2, 64, 8, 8)], []) == 2 * 2 * 16 * 128 * (64 * 9 + 128 * 9 + 64)
    assert layer.infer_shapes((2, 64, 8, 8)) == [(2, 128, 4, 4)]
    assert [spec.lr_mult for spec in message.param] == [1.0] * 9 + [0.0] * 6


def test_refusals() -> None:
    with pytest.raises(DataError, match="--model resnet: torchvision has no such classification network; it has alex"):
        blocks_of("resnet")
    with pytest.raises(DataError, match="--model squeezenet1_1: is no chain of 2 blocks or more with an inner product"):
        blocks_of("squeezenet1_1")
    with pytest.raises(NetError, match=r"no block 'layer9'; expected one of conv1, layer1\.0"):
        net_of("resnet18", ("layer9",))
    with pytest.raises(NetError, match=r'"layer1\.0".*the block cannot take a bottom of shape \(4, 3, 32, 32\)'):
        net_of("resnet18", ("layer1.0",))
