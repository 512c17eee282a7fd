"""What a finished network says of its images, and where it comes apart."""

from pathlib import Path

import numpy as np
import pytest
import torch

from caffe_compat.data import LMDBDataset, read_mean
from caffe_compat.errors import DataError
from caffe_compat.solver import events
from reproduce.diagnostics.trained_network import TrainedNetwork
from tests.reproduce.diagnostics.tiny_run import BASE_A, BASE_B, CROSS

ROUNDING = 1e-6


def test_its_accuracy_is_the_last_test_s(out: Path) -> None:
    for network in (BASE_A, BASE_B, CROSS):
        trained = TrainedNetwork(network, out)
        assert len(trained.images) == 24  # a test: four batches of six
        log = events.read_events(out / network.name / "train.jsonl")
        tests = [event for event in log if isinstance(event, events.TestEvent)]
        assert trained.accuracy() == pytest.approx(tests[-1].output("accuracy"), abs=ROUNDING)


def test_images_are_prepared_as_its_own(out: Path) -> None:
    """Another set's images, less the mean of the half that the network starts from; the centre, a hundredth."""
    trained = TrainedNetwork(CROSS, out)
    images = LMDBDataset(out / "data" / "half0B_valid_lmdb")
    pixels, labels = trained.inputs(images, [2, 5])
    mean = read_mean(out / "data" / "half0A_mean.binaryproto")
    expected = np.stack([(images[i][0].numpy().astype(np.float32) - mean)[:, :7, :7] * 0.01 for i in (2, 5)])
    np.testing.assert_allclose(pixels.numpy(), expected, rtol=1e-5, atol=1e-6)
    assert labels.tolist() == [images[2][1], images[5][1]]


def test_layers_and_their_values(out: Path) -> None:
    trained = TrainedNetwork(CROSS, out)
    assert trained.layers() == ["one", "two-new", "out-new"]
    one, two, last = trained.features(trained.images, range(24))
    assert (one.shape, two.shape, last.shape) == ((24, 5, 5, 5), (24, 6), (24, 4))
    pooled = torch.nn.functional.max_pool2d(one, 2, 2, ceil_mode=True).flatten(1)
    weight, bias = trained.net.params["two-new"]
    assert two.min() == 0  # behind the ReLU
    torch.testing.assert_close(two, torch.relu(pooled @ weight.T + bias), atol=1e-5, rtol=1e-5)
    labels = torch.tensor([trained.images[i][1] for i in range(24)])
    assert float((last.argmax(1) == labels).float().mean()) == pytest.approx(trained.accuracy(), abs=ROUNDING)


def test_lower_and_upper_part_are_the_whole(out: Path) -> None:
    trained = TrainedNetwork(BASE_B, out)
    cuts = trained.cuts()
    assert [(cut.n, cut.layer, cut.blob) for cut in cuts] == [(1, "stretch", "pool"), (2, "two", "two")]
    pixels, labels = next(trained.batches())
    whole = trained.net({"data": pixels, "label": labels})
    for cut in cuts:
        between = trained.lower(cut)(pixels)[cut.blob]
        upper = trained.upper(cut, tuple(between.shape))({cut.blob: between, "label": labels})
        assert torch.equal(upper["loss"], whole["loss"])


def test_weights_that_are_gone_are_named(out: Path, tmp_path: Path) -> None:
    (tmp_path / "data").symlink_to(out / "data")
    folder = tmp_path / "half0A"
    folder.mkdir()
    for name in ("train", "val", "solver"):
        (folder / f"{name}.prototxt").write_bytes((out / "half0A" / f"{name}.prototxt").read_bytes())
    with pytest.raises(DataError, match=r"half0A/tiny_iter_20\.caffemodel: is missing; remove the folder .*half0A to"):
        TrainedNetwork(BASE_A, tmp_path)
