"""The shipped prototxts are the networks they say they are."""

from pathlib import Path
from typing import Any

import pytest

from caffe_compat import Net
from caffe_compat.proto import caffe_pb2, parse_net, read_message, read_net, read_solver
from reproduce.network import Network
from reproduce.run_folder import PROTOTXT, RunSettings, write_run_folder
from reproduce.treatments import RANDOM, transfer

CAFFENET_PARAMETERS = 60_965_224
ORDER = [
    *("conv1", "relu1", "pool1", "norm1", "conv2", "relu2", "pool2", "norm2"),
    *("conv3", "relu3", "conv4", "relu4", "conv5", "relu5", "pool5"),
    *("fc6", "relu6", "drop6", "fc7", "relu7", "drop7", "fc8"),
]
MINIATURES = ("glyphs", "glyphs-large", "photos", "fashion-mnist")
FILES = sorted(PROTOTXT.rglob("*.prototxt"))


def middle(net: Any) -> list[str]:
    """Names of the layers between data and loss."""
    ends = ("Data", "Input", "Softmax", "SoftmaxWithLoss", "Accuracy")
    return [layer.name for layer in net.layer if layer.type not in ends]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PROTOTXT)))
def test_every_file_is_read_and_says_what_it_is(path: Path) -> None:
    (read_solver if "solver" in path.name else read_net)(path)
    if "examples" not in path.parts:
        assert path.read_text().startswith("# ")


@pytest.mark.parametrize("name", ["caffenet", "alexnet"])
def test_deploy_nets_have_the_published_size(name: str) -> None:
    net = Net(PROTOTXT / name / f"{name}_deploy.prototxt", phase="TEST")
    assert sum(p.numel() for p in net.parameters()) == CAFFENET_PARAMETERS
    assert net.blob_shapes["pool5"][1:] == (256, 6, 6)
    assert net.blob_shapes["prob"] == (10, 1000)


def test_pooling_comes_before_normalisation_in_caffenet_only() -> None:
    assert middle(read_net(PROTOTXT / "caffenet/caffenet_deploy.prototxt")) == ORDER
    alexnet = middle(read_net(PROTOTXT / "alexnet/alexnet_deploy.prototxt"))
    assert alexnet[2:4] == ["norm1", "pool1"]
    assert sorted(alexnet) == sorted(ORDER)


@pytest.mark.parametrize("name", ["caffenet", "alexnet"])
def test_deploy_and_training_nets_agree(name: str) -> None:
    deploy, train = (read_net(PROTOTXT / name / f"{name}_{kind}.prototxt") for kind in ("deploy", "train_val"))
    assert middle(deploy) == middle(train)
    for ours, theirs in zip((x for x in deploy.layer if x.param), (x for x in train.layer if x.param), strict=True):
        for message in (ours, theirs):
            for field in ("convolution_param", "inner_product_param"):
                if message.HasField(field):
                    getattr(message, field).ClearField("weight_filler")
                    getattr(message, field).ClearField("bias_filler")
        assert ours == theirs


def test_biases_of_caffenet_start_at_1_and_of_alexnet_at_a_tenth() -> None:
    for name, bias in (("caffenet", 1.0), ("alexnet", 0.1)):
        net = read_net(PROTOTXT / name / f"{name}_train_val.prototxt")
        values = {}
        for layer in net.layer:
            if layer.param:
                param = layer.convolution_param if layer.type == "Convolution" else layer.inner_product_param
                values[layer.name] = param.bias_filler.value
        others = {"conv1": 0, "conv3": 0, "fc8": 0}
        assert values == pytest.approx({n: others.get(n, bias) for n in values})


def test_the_papers_base_is_caffenet() -> None:
    """Written in 2013's form and in today's, by two hands, it is one network."""
    base = read_net(PROTOTXT / "paper/base/train.prototxt")
    today = read_net(PROTOTXT / "caffenet/caffenet_train_val.prototxt")
    layers = {layer.name: layer for layer in today.layer}
    assert middle(base) == ORDER
    for layer in base.layer:
        if layer.name in ORDER:
            assert layer == layers[layer.name], layer.name


@pytest.mark.parametrize("name", MINIATURES)
def test_miniatures_have_caffenets_layers_and_groups(name: str) -> None:
    for phase in ("train", "val"):
        path = PROTOTXT / "miniature" / name / "base" / f"{phase}.prototxt"
        assert read_message(path, caffe_pb2.NetParameter()).layers, "expected the form of 2013"
        net = read_net(path)
        assert middle(net) == ORDER
        groups = {layer.name: layer.convolution_param.group for layer in net.layer if layer.type == "Convolution"}
        assert groups == {"conv1": 1, "conv2": 2, "conv3": 1, "conv4": 2, "conv5": 2}


@pytest.mark.parametrize("name", MINIATURES)
def test_miniatures_compute(name: str) -> None:
    source = read_net(PROTOTXT / "miniature" / name / "base" / "train.prototxt")
    data = source.layer[0]
    channels = 1 if name == "fashion-mnist" else 3
    size = data.transform_param.crop_size
    shape = f"shape {{ dim: 2 dim: {channels} dim: {size} dim: {size} }} shape {{ dim: 2 }}"
    given = parse_net(f'layer {{ name: "data" type: "Input" top: "data" top: "label" input_param {{ {shape} }} }}')
    source.layer[0].CopyFrom(given.layer[0])
    net = Net(source)
    assert net.blob_shapes["pool5"][2] >= 1
    assert net.blob_shapes["fc8"][0] == 2


@pytest.mark.parametrize("network", [transfer("0", "A", "B", 3), transfer("0", "A", "B", 3, True), RANDOM.network(3)])
def test_committed_examples_are_what_the_generator_writes(network: Network, tmp_path: Path) -> None:
    written = write_run_folder(network, RunSettings(), tmp_path)
    example = PROTOTXT / "paper" / "examples" / network.name
    for name in ("train", "val", "solver"):
        assert (example / f"{name}.prototxt").read_text() == (written / f"{name}.prototxt").read_text()
