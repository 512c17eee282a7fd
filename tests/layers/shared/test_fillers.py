"""Fillers against Caffe's numbers (tests/golden/filler: seed in case.json, float32)."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from google.protobuf import text_format

from caffe_compat import random
from caffe_compat.errors import NetError
from caffe_compat.layers.shared.fillers import fill
from caffe_compat.net import Net
from caffe_compat.proto import caffe_pb2

GOLDEN = sorted((Path(__file__).parents[2] / "golden/filler").iterdir())
#: the golden cases' own: the stream is the same to the bit, sums may round differently
CAFFE_TOLERANCE = 1e-6


@pytest.fixture(autouse=True)
def _own_random_stream() -> Iterator[None]:
    with random.scope():
        yield


def filled(text: str, *shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    tensor = torch.full(shape, torch.nan, dtype=dtype)
    fill(tensor, text_format.Parse(text, caffe_pb2.FillerParameter()))
    return tensor


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case.name)
def test_golden(case: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(case)
    meta = json.loads((case / "case.json").read_text())
    random.set_seed(meta["seed"])
    net = Net(case / "net.prototxt", phase=meta["phase"])
    found = {
        f"param:{layer}:{i}": blob.detach().numpy()
        for layer, blobs in net.params.items()
        for i, blob in enumerate(blobs)
    }
    for number in range(meta.get("passes", 0)):
        blobs = net.extract(net.blob_names)
        found |= {f"pass{number}:{name}": blob.detach().numpy() for name, blob in blobs.items()}
    with np.load(case / "expected.npz") as expected:
        assert set(expected.files) == set(found)
        for key in expected.files:
            np.testing.assert_allclose(
                found[key], expected[key], rtol=CAFFE_TOLERANCE, atol=CAFFE_TOLERANCE, err_msg=key
            )


def test_the_default_is_constant_zero() -> None:
    assert filled("", 2, 3).tolist() == [[0] * 3] * 2


def test_scalars_can_be_filled() -> None:
    assert filled("value: 2.5").item() == 2.5


@pytest.mark.parametrize(
    ("text", "shape", "mean", "std"),
    [
        ('type: "uniform" min: -1 max: 3', (100, 200), 1, 4 / 12**0.5),
        ('type: "gaussian" mean: 2 std: 0.5', (100, 200), 2, 0.5),
        ('type: "xavier"', (100, 200), 0, 200**-0.5),
        ('type: "xavier" variance_norm: FAN_OUT', (100, 200), 0, 100**-0.5),
        ('type: "xavier" variance_norm: AVERAGE', (100, 200), 0, 150**-0.5),
        ('type: "msra"', (100, 50, 2, 2), 0, (2 / 200) ** 0.5),
        ('type: "msra" variance_norm: FAN_OUT', (100, 50, 2, 2), 0, (2 / 400) ** 0.5),
        ('type: "msra" variance_norm: AVERAGE', (100, 50, 2, 2), 0, (2 / 300) ** 0.5),
        ('type: "msra" variance_norm: FAN_OUT', (20000,), 0, (2 / 20000) ** 0.5),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_moments(text: str, shape: tuple[int, ...], mean: float, std: float, dtype: torch.dtype) -> None:
    random.set_seed(1)
    values = filled(text, *shape, dtype=dtype).double()
    # 20000 draws: five standard errors
    assert values.mean().item() == pytest.approx(mean, abs=5 * std / 20000**0.5)
    assert values.std().item() == pytest.approx(std, rel=5 / 20000**0.5)


def test_sparse_keeps_as_many_inputs_per_output_on_average() -> None:
    random.set_seed(1)
    weights = filled('type: "gaussian" std: 1 sparse: 5', 50, 2000)
    assert (weights != 0).sum().item() / 2000 == pytest.approx(5, rel=0.05)


def test_positive_unitball_rows_sum_to_one() -> None:
    random.set_seed(1)
    values = filled('type: "positive_unitball"', 6, 4, 5, dtype=torch.float64)
    assert values.min() >= 0
    torch.testing.assert_close(values.sum((1, 2)), torch.ones(6, dtype=torch.float64))


def test_bilinear_interpolates_in_every_channel() -> None:
    values = filled('type: "bilinear"', 2, 1, 4, 4)
    slope = torch.tensor([0.25, 0.75, 0.75, 0.25])
    assert torch.equal(values, torch.outer(slope, slope).expand(2, 1, 4, 4))


def test_float64_draws_are_its_own() -> None:
    random.set_seed(1)
    single = filled('type: "gaussian" std: 1', 50)
    random.set_seed(1)
    double = filled('type: "gaussian" std: 1', 50, dtype=torch.float64)
    assert not torch.allclose(single.double(), double)


@pytest.mark.parametrize(
    ("text", "shape", "message"),
    [
        ('type: "xaviar"', (2,), 'type is "xaviar"; expected one of constant, gaussian'),
        ('type: "constant"', (2, 0), r"\(2, 0\) has nothing to fill"),
        ('type: "xavier" sparse: 1', (2,), "sparse is 1; only the gaussian filler"),
        ('type: "uniform" min: 1 max: 0', (2,), r"min is 1\.0 and max 0\.0"),
        ('type: "gaussian" std: 0', (2,), r"std is 0\.0; expected more than 0"),
        ('type: "gaussian" std: -1', (2,), r"std is -1\.0"),
        ('type: "gaussian" sparse: -2', (2,), "sparse is -2"),
        ('type: "gaussian" sparse: 3', (2, 9), r"sparse is 3; a blob of shape \(2, 9\) has fewer outputs"),
        ('type: "gaussian" sparse: 1', (), "has fewer outputs"),
        ('type: "msra"', (), "the blob is a scalar"),
        ('type: "positive_unitball"', (), "the blob is a scalar"),
        ('type: "bilinear"', (2, 3, 3), "expected 4 axes and a square kernel"),
        ('type: "bilinear"', (2, 1, 3, 4), "expected 4 axes and a square kernel"),
    ],
)
def test_refusals(text: str, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(NetError, match=message):
        filled(text, *shape)
