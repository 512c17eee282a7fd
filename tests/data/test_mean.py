from pathlib import Path

import numpy as np
import pytest

from caffe_compat.data import compute_mean, encode_datum, open_database, read_mean, write_lmdb, write_mean
from caffe_compat.errors import CaffeCompatError, DataError
from tests.data.conftest import noise_images


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


@pytest.mark.parametrize("name", ["mean.binaryproto", "mean.npy"])
def test_files_come_back(tmp_path: Path, name: str) -> None:
    mean = np.random.default_rng(0).random((3, 4, 5), np.float32)
    write_mean(tmp_path / name, mean)
    assert (read_mean(tmp_path / name) == mean).all()


def test_errors(tmp_path: Path) -> None:
    (tmp_path / "bad.binaryproto").write_bytes(b"\x0f\xff")
    with pytest.raises(CaffeCompatError, match=r"bad.binaryproto"):
        read_mean(tmp_path / "bad.binaryproto")
    np.save(tmp_path / "flat.npy", np.zeros(3))
    with pytest.raises(DataError, match=r"mean has shape \(3,\)"):
        read_mean(tmp_path / "flat.npy")
    sizes = [(1, 2, 2)] * 64 + [(1, 2, 3)]
    write_lmdb(tmp_path / "db", ((f"{i:03d}", encode_datum(np.zeros(s, np.uint8))) for i, s in enumerate(sizes)))
    with pytest.raises(DataError, match=r"record '064' is .*a mean needs one size"):
        compute_mean(open_database(tmp_path / "db"))
