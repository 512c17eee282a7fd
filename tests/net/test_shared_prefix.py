"""Frozen layers of several nets on one batch: each is run once, and the numbers are those of each net alone."""

from pathlib import Path

import pytest
import torch

from caffe_compat import Net, random
from caffe_compat.data.batch_pool import BatchPool
from caffe_compat.data.source_layer import SourceLayer
from caffe_compat.net.shared_prefix import SharedPrefix
from caffe_compat.proto import parse_net
from tests.net.test_prefix import folder, net_text

__all__ = ["folder"]  # a fixture
SEED = "transform_param { random_seed: 5 "


def make_net(folder: Path, *frozen: str, fast: bool) -> Net:
    text = net_text(folder, *frozen, mirror=True).replace("transform_param { ", SEED)
    with random.scope(1):
        return Net(parse_net(text), phase="TRAIN", fast=fast)


def count_runs(net: Net) -> dict[str, int]:
    """How often each layer with weights runs, as a dict that grows."""
    runs: dict[str, int] = {}
    for step in net.steps:
        if step.layer.blobs:
            step.layer.register_forward_hook(
                lambda layer, *_: runs.__setitem__(layer.name, runs.get(layer.name, 0) + 1)
            )
    return runs


@pytest.mark.parametrize("fast", [False, True])
def test_each_layer_is_run_once_for_all(folder: Path, fast: bool) -> None:
    frozen = [("conv1",), ("conv1", "ip1"), ()]
    alone = [make_net(folder, *names, fast=fast) for names in frozen]
    together = [make_net(folder, *names, fast=fast) for names in frozen]
    pool, prefix = BatchPool(), SharedPrefix()
    said = []
    for net in together:
        (layer,) = net.sources()
        assert isinstance(layer, SourceLayer)
        pool.add(layer)
        said.append(prefix.add(net, "fp32"))
    assert said == ["conv1 to norm1", "conv1 to relu2", ""]
    for number in range(3):
        losses: list[list[torch.Tensor]] = []
        for nets in (alone, together):
            losses.append([])
            for net in nets:
                net.zero_grad()
                with random.scope(number):  # dropout
                    loss = net.forward_with_loss()[1]
                loss.backward()
                losses[-1].append(loss.detach())
        assert losses[0] == losses[1]
        for ours, theirs in zip(together, alone, strict=True):
            for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
                assert (a.grad is None) == (b.grad is None)
                assert a.grad is None or b.grad is None or torch.equal(a.grad, b.grad)
    runs = [count_runs(net) for net in together]  # hooks: a unit's layers run one by one
    for net in together:
        net.next_batch()
    assert runs == [{"conv1": 1}, {"ip1": 1}, {}]


def test_other_weights_are_other_layers(folder: Path) -> None:
    one, other = (make_net(folder, "conv1", fast=False) for _ in range(2))
    with torch.no_grad():
        other.params["conv1"][1].add_(1)
    expected = [net.extract(["norm1"])["norm1"] for net in (one, other)]
    pool, prefix = BatchPool(), SharedPrefix()
    made = list[torch.Tensor]()
    for net in (make_net(folder, "conv1", fast=False), make_net(folder, "conv1", fast=False)):
        (layer,) = net.sources()
        assert isinstance(layer, SourceLayer)
        pool.add(layer)
        prefix.add(net, "fp32")
        if made:
            with torch.no_grad():
                net.params["conv1"][1].add_(1)
        made.append(net.next_batch()["norm1"])
    assert torch.equal(made[0], expected[0])
    assert torch.equal(made[1], expected[1])
    assert not torch.equal(made[0], made[1])
