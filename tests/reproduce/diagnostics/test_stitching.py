"""A linear map between two networks, against its definition written out."""

from pathlib import Path

import numpy as np
import pytest
import torch
from google.protobuf import text_format

from caffe_compat import Net, random
from caffe_compat.proto import caffe_pb2
from reproduce.diagnostics.stitching import RATE, START_BATCHES, LinearMap, least_squares, stitch
from reproduce.diagnostics.trained_network import TrainedNetwork
from tests.reproduce.diagnostics.tiny_run import BASE_A, BASE_B, DATA

ONE_IMAGE = 1 / 24


def test_the_least_squares_find_a_map(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reproduce.diagnostics.stitching.RIDGE", 0.0)
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.normal(2, 1, (9, 3, 4, 4)))
    weight, bias = torch.from_numpy(rng.normal(size=(5, 3))), torch.from_numpy(rng.normal(size=5))
    y = torch.nn.functional.conv2d(x, weight[:, :, None, None], bias)
    found = least_squares(x, y)
    torch.testing.assert_close(found.weight.data, weight)
    torch.testing.assert_close(found.bias.data, bias)
    torch.testing.assert_close(found(x), y)


def test_the_ridge_makes_a_layer_with_dead_channels_solvable() -> None:
    x = torch.zeros(6, 4)
    x[:, 0] = torch.arange(6.0)
    found = least_squares(x, 2 * x[:, :1] + 1)
    torch.testing.assert_close(found(x), 2 * x[:, :1] + 1, atol=0.05, rtol=0)
    assert torch.equal(found.weight[0, 1:], torch.zeros(3))


def test_a_network_stitched_to_itself_is_itself(out: Path) -> None:
    trained = TrainedNetwork(BASE_A, out)
    for cut in trained.cuts():
        found = stitch(trained, trained, cut, iterations=1)
        assert found.start == pytest.approx(trained.accuracy(), abs=ONE_IMAGE)


def test_the_map_alone_is_trained_as_said(out: Path) -> None:
    """Below the classifier, so that the upper part is one product: Adam's steps on the upper one's training images."""
    lower, upper = TrainedNetwork(BASE_B, out), TrainedNetwork(BASE_A, out)
    cut = upper.cuts()[1]
    before = [parameter.clone() for parameter in (*lower.net.parameters(), *upper.net.parameters())]
    found = stitch(lower, upper, cut, iterations=30)

    source = caffe_pb2.NetParameter()
    text_format.Parse(DATA, source)
    source.layer[0].data_param.source = str(out / "data" / "half0A_train_lmdb")
    source.layer[0].data_param.backend = caffe_pb2.DataParameter.LMDB
    source.layer[0].transform_param.mean_file = str(out / "data" / "half0B_mean.binaryproto")
    weight, bias = upper.net.params["out"]

    def features(trained: TrainedNetwork, pixels: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return trained.net.extract(["two"], {"data": pixels, "label": torch.zeros(len(pixels))})["two"]

    def accuracy(joint: LinearMap) -> float:
        pixels, labels = lower.inputs(upper.images, range(24))
        with torch.no_grad():
            return float(((joint(features(lower, pixels)) @ weight.T + bias).argmax(1) == labels).float().mean())

    with random.scope(seed=0):
        data = Net(source, phase="TRAIN")
        pixels = torch.cat([data.next_batch()["data"] for _ in range(START_BATCHES)])
        joint = least_squares(features(lower, pixels), features(upper, pixels))
        start = accuracy(joint)
        adam = torch.optim.Adam(joint.parameters(), lr=RATE)
        for _ in range(30):
            batch = data.next_batch()
            adam.zero_grad()
            logits = joint(features(lower, batch["data"])) @ weight.detach().T + bias.detach()
            torch.nn.functional.cross_entropy(logits, batch["label"].long()).backward()
            adam.step()
        data.close()
    assert found.start == pytest.approx(start, abs=1e-6)
    # rounding may move an image that is on the border
    assert found.trained == pytest.approx(accuracy(joint), abs=ONE_IMAGE + 1e-6)
    after = [*lower.net.parameters(), *upper.net.parameters()]
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
