"""Means of many subsets in one pass have the bits of each one's own."""

from pathlib import Path

import numpy as np
import pytest

from caffe_compat.data import open_database, write_lmdb
from caffe_compat.data.database_mean import compute_mean
from caffe_compat.data.datum import encode_datum, encode_image
from caffe_compat.data.index_file import SubsetReader, write_index_file
from caffe_compat.errors import DataError
from reproduce.imagenet.means import compare_mean, subset_means


@pytest.mark.parametrize("encoded", [False, True])
def test_bits_are_those_of_the_mean_of_each_subset(tmp_path: Path, encoded: bool) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (150, 3, 6, 5), np.uint8)

    def record(image: np.ndarray) -> bytes:
        if not encoded:
            return encode_datum(image, 0)
        import cv2

        return encode_image(cv2.imencode(".png", image.transpose(1, 2, 0))[1].tobytes(), 0)

    write_lmdb(tmp_path / "all", ((f"{i:08d}", record(image)) for i, image in enumerate(pixels)))
    members = {"all": np.ones(150, bool), "some": rng.random(150) < 0.4, "last": np.arange(150) == 149}
    steps: list[int] = []
    found = subset_means(open_database(tmp_path / "all"), members, steps.append, threads=2)
    assert steps == [64, 128, 150]  # one pass
    for name, chosen in members.items():
        records = np.flatnonzero(chosen)
        write_index_file(tmp_path / name / ".." / f"{name}.index", tmp_path / "all", records, records)
        expected = compute_mean(SubsetReader(tmp_path / f"{name}.index"))
        assert found[name].dtype == np.float32
        assert found[name].tobytes() == expected.tobytes()
        np.testing.assert_allclose(found[name], pixels[chosen].mean(0), rtol=1e-5)


def test_refusals(tmp_path: Path) -> None:
    images = [np.zeros((3, 4, 4), np.uint8)] * 64 + [np.zeros((3, 4, 5), np.uint8)]
    write_lmdb(tmp_path / "all", ((f"{i:08d}", encode_datum(image, 0)) for i, image in enumerate(images)))
    database = open_database(tmp_path / "all")
    with pytest.raises(DataError, match="record 64 is of another size than those before it; a mean needs one size"):
        subset_means(database, {"all": np.ones(65, bool)})
    write_lmdb(tmp_path / "few", [("0", encode_datum(images[0], 0))])
    with pytest.raises(DataError, match="no record of none; expected at least one"):
        subset_means(open_database(tmp_path / "few"), {"none": np.zeros(1, bool)})


def test_a_mean_beside_the_authors() -> None:
    near = np.stack([np.full((4, 4), value, np.float32) for value in (104.2, 116.7, 122.8)])
    text, equal = compare_mean(near)
    assert equal
    assert text.startswith(
        "104.200 116.700 122.800 (B G R), the authors' is 104.007 116.669 122.679: equals the authors'"
    )
    text, equal = compare_mean(near[::-1])
    assert not equal
    assert text.endswith("is not the authors': other images or channels")
