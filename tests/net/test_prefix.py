"""What frozen layers make of an image is looked up: the same numbers, and training goes on in the same way."""

from pathlib import Path

import numpy as np
import pytest
import torch

from caffe_compat import Net, Solver, random
from caffe_compat.data import encode_datum, write_lmdb
from caffe_compat.errors import NetError
from caffe_compat.net.prefix import constant_line, look_up_prefix
from caffe_compat.proto import caffe_pb2, parse_net
from caffe_compat.solver import Log

MANY = 10**6
FROZEN = "param { lr_mult: 0 } param { lr_mult: 0 }"
TRAINED = "param { lr_mult: 1 } param { lr_mult: 2 }"


def net_text(folder: Path, *frozen: str, mirror: bool = False) -> str:
    """conv1 relu1 pool1 norm1 ip1 relu2 drop ip2 loss over a database of six images; ``frozen`` layers do not learn."""
    layers = [
        f'name: "data" type: "Data" top: "data" top: "label" data_param {{ source: "{folder / "db"}" batch_size: 4 '
        f"backend: LMDB }} transform_param {{ crop_size: 7 scale: 0.01 mirror: {str(mirror).lower()} }}",
        'name: "conv1" type: "Convolution" bottom: "data" top: "conv1" convolution_param { num_output: 6 '
        'kernel_size: 3 weight_filler { type: "xavier" } }',
        'name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1"',
        'name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1" pooling_param { pool: MAX '
        "kernel_size: 3 stride: 2 }",
        'name: "norm1" type: "LRN" bottom: "pool1" top: "norm1" lrn_param { local_size: 3 }',
        'name: "ip1" type: "InnerProduct" bottom: "norm1" top: "ip1" inner_product_param { num_output: 5 '
        'weight_filler { type: "xavier" } }',
        'name: "relu2" type: "ReLU" bottom: "ip1" top: "ip1"',
        'name: "drop" type: "Dropout" bottom: "ip1" top: "ip1"',
        'name: "ip2" type: "InnerProduct" bottom: "ip1" top: "ip2" inner_product_param { num_output: 3 '
        'weight_filler { type: "xavier" } }',
        'name: "loss" type: "SoftmaxWithLoss" bottom: "ip2" bottom: "label" top: "loss"',
        'name: "accuracy" type: "Accuracy" bottom: "ip2" bottom: "label" top: "accuracy" include { phase: TEST }',
    ]

    def rates(layer: str) -> str:
        return FROZEN if any(f'name: "{name}"' in layer for name in frozen) else TRAINED

    learned = [f"{layer} {rates(layer)}" if "num_output" in layer else layer for layer in layers]
    return "\n".join(f"layer {{ {layer} }}" for layer in learned)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    images = np.random.default_rng(0).integers(0, 256, (6, 3, 9, 8), dtype=np.uint8)
    write_lmdb(tmp_path / "db", ((f"{i}", encode_datum(image, i % 3)) for i, image in enumerate(images)))
    return tmp_path


def make_net(folder: Path, *frozen: str, phase: str = "TRAIN", **options: bool) -> Net:
    random.set_seed(1)
    return Net(parse_net(net_text(folder, *frozen, **options)), phase=phase, fast=True)


def names(net: Net) -> list[str]:
    return [step.layer.name for step in constant_line(net)]


def test_the_line_ends_at_what_learns_or_is_random(folder: Path) -> None:
    assert names(make_net(folder)) == []
    assert names(make_net(folder, "conv1")) == ["conv1", "relu1", "pool1", "norm1"]
    both = ["conv1", "relu1", "pool1", "norm1", "ip1", "relu2"]
    assert names(make_net(folder, "conv1", "ip1")) == both
    assert names(make_net(folder, "conv1", "ip1", "ip2")) == both  # dropout is random
    assert names(make_net(folder, "ip1")) == []  # conv1 learns below it


@pytest.mark.parametrize("frozen", [(), ("conv1",), ("conv1", "ip1")])
def test_losses_and_gradients_are_those_of_the_whole_net(folder: Path, frozen: tuple[str, ...]) -> None:
    whole, behind = make_net(folder, *frozen), make_net(folder, *frozen)
    assert look_up_prefix(behind, MANY).startswith("36 images and windows: ")  # 6 images, 3 x 2 crops of 7 from 9x8
    first = ["data", "norm1", "ip1"][len(frozen)]
    for number in range(5):
        batch = behind.next_batch()
        assert set(batch) == {first, "label"}
        random.set_seed(number)  # dropout
        loss = behind.forward_with_loss(**batch)[1]
        random.set_seed(number)
        expected = whole.forward_with_loss()[1]
        assert torch.allclose(loss, expected, rtol=1e-6)
        for net, total in ((whole, expected), (behind, loss)):
            net.zero_grad()
            total.backward()
        for ours, theirs in zip(behind.parameters(), whole.parameters(), strict=True):
            if ours.grad is None or theirs.grad is None:
                assert ours.grad is theirs.grad
            else:
                assert torch.allclose(ours.grad, theirs.grad, rtol=1e-5, atol=1e-7)


def test_what_is_left_out_cannot_be_asked_for(folder: Path) -> None:
    net = make_net(folder, "conv1")
    look_up_prefix(net, MANY)
    assert net.extract(["norm1", "ip1"])["norm1"].shape == (4, 6, 2, 2)
    with pytest.raises(NetError, match="'pool1' is not made"):
        net.extract(["pool1"])


def test_only_where_it_pays(folder: Path) -> None:
    rows = 6 * 3 * 2
    assert look_up_prefix(make_net(folder), 2 * rows - 1) == ""
    assert look_up_prefix(make_net(folder), 2 * rows).startswith(f"{rows} images and windows: the images are computed")
    assert look_up_prefix(make_net(folder), MANY, most_bytes=rows * 3 * 7 * 7 * 4 - 1) == ""
    assert look_up_prefix(make_net(folder, "conv1"), MANY, most_bytes=rows * 6 * 2 * 2 * 4) != ""
    assert look_up_prefix(make_net(folder, mirror=True), MANY) == ""


def test_start_behind_refuses_what_others_read(folder: Path) -> None:
    net = make_net(folder)
    steps = {step.layer.name: step for step in net.steps}
    for line in (["relu1"], ["conv1", "pool1", "norm1"], ["conv1", "pool1"]):
        with pytest.raises(NetError, match="start_behind"):
            net.start_behind([steps[name] for name in line])


def solver(folder: Path, look_up: bool) -> Solver:
    (folder / "net.prototxt").write_text(net_text(folder, "conv1"))
    param = caffe_pb2.SolverParameter(
        net=str(folder / "net.prototxt"),
        test_iter=[3],
        test_interval=4,
        base_lr=0.1,
        lr_policy="fixed",
        momentum=0.9,
        max_iter=20,
        snapshot_prefix=str(folder / f"look{look_up}"),
        random_seed=3,
    )
    made = Solver(param, device="cpu", fast=True, log=Log(enabled=False))
    if look_up:
        for net in (made.net, *made.test_nets):
            assert look_up_prefix(net, MANY)
    return made


def test_training_continues_from_a_snapshot_with_the_same_bits(folder: Path) -> None:
    """A snapshot taken beside the whole net fits the one behind its prefix, and the other way round."""
    whole, behind = solver(folder, look_up=False), solver(folder, look_up=True)
    for made in (whole, behind):
        made.step(7)
        made.snapshot()
        made.step(6)
    again, from_whole = solver(folder, look_up=True), solver(folder, look_up=True)
    for made, name in ((again, "lookTrue"), (from_whole, "lookFalse")):
        made.restore(folder / f"{name}_iter_7.solverstate")
        made.step(6)
    for ours, expected in zip(again.net.parameters(), behind.net.parameters(), strict=True):
        assert torch.equal(ours, expected)
    for ours, expected in zip(from_whole.net.parameters(), whole.net.parameters(), strict=True):
        assert torch.allclose(ours, expected, rtol=1e-4, atol=1e-6)
    assert [score.value for score in again.test(0)] == [score.value for score in behind.test(0)]
    for made in (whole, behind, again, from_whole):
        made.close()
