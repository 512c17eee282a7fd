from pathlib import Path

import cv2
import numpy as np
import pytest

from caffe_compat.data import compute_mean, encode_datum, encode_image, open_database, write_lmdb
from caffe_compat.errors import DataError
from tests.data.conftest import noise_images


@pytest.fixture(autouse=True)
def _many(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few records count as many, for which the extension is used where it is there."""
    monkeypatch.setattr("caffe_compat.data.database_mean._FEW", 0)


@pytest.mark.usefixtures("image_batches")
def test_sums_in_float32_in_order(tmp_path: Path) -> None:
    """Many large values, so that float32 rounds on the way, as Caffe's sum does."""
    images = (noise_images(150, (3, 5, 7)) * np.float32(1e5)).astype(np.float32)
    write_lmdb(tmp_path / "db", ((f"{i:08d}", encode_datum(image, 0)) for i, image in enumerate(images)))
    total = np.zeros(images[0].shape, np.float32)
    for image in images:
        total += image
    steps: list[int] = []
    mean = compute_mean(open_database(tmp_path / "db"), steps.append, threads=2)
    assert (mean == total / np.float32(150)).all()
    assert (mean != images.astype(np.float64).mean(0).astype(np.float32)).any()
    assert steps[-1] == 150


@pytest.mark.usefixtures("image_batches")
def test_encoded_records_are_decoded(tmp_path: Path) -> None:
    images = noise_images(3)
    files = [cv2.imencode(".png", np.ascontiguousarray(image.transpose(1, 2, 0)))[1].tobytes() for image in images]
    write_lmdb(tmp_path / "db", ((f"{i}", encode_image(file)) for i, file in enumerate(files)))
    expected = images.astype(np.float32).sum(0) / np.float32(3)
    assert (compute_mean(open_database(tmp_path / "db")) == expected).all()


@pytest.mark.usefixtures("image_batches")
def test_errors(tmp_path: Path) -> None:
    sizes = [(1, 2, 2)] * 64 + [(1, 2, 3)]
    write_lmdb(tmp_path / "db", ((f"{i:03d}", encode_datum(np.zeros(s, np.uint8))) for i, s in enumerate(sizes)))
    with pytest.raises(DataError, match=r"record '064' is .*a mean needs one size"):
        compute_mean(open_database(tmp_path / "db"))
    write_lmdb(tmp_path / "bad", [("000", encode_datum(np.zeros((1, 2, 2), np.uint8))), ("001", b"\x08")])
    with pytest.raises(DataError, match=r"bad: record '001': record ends inside a field"):
        compute_mean(open_database(tmp_path / "bad"))
