from pathlib import Path

import numpy as np
import pytest

from caffe_compat.data import Transformer, encode_datum, write_mean
from caffe_compat.data.batch import BatchMaker
from caffe_compat.errors import DataError
from caffe_compat.random import CaffeGenerator
from tests.data.conftest import noise_images


def test_draws_mirror_then_row_then_column() -> None:
    transformer = Transformer(crop_size=5, mirror=True)
    transformer.start_random(3)
    stream = CaffeGenerator(3)
    for _ in range(20):
        mirror, top, left = stream.raw() % 2, stream.raw() % 4, stream.raw() % 6
        assert transformer.draw(8, 10) == (top, left, mirror == 1)


def test_nothing_random_draws_nothing() -> None:
    assert not Transformer(crop_size=5, phase="TEST").is_random
    assert Transformer(crop_size=5, phase="TEST").draw(8, 11) == (1, 3, False)
    assert Transformer(crop_size=5, mirror=True, phase="TEST").is_random


MEAN = {"none": {}, "one": {"mean_value": [101.5]}, "three": {"mean_value": [1.5, 100, 200]}, "file": {}}


@pytest.mark.parametrize("mean", MEAN)
@pytest.mark.parametrize("layout", ["raw", "decoded", "float", "gray"])
@pytest.mark.parametrize("crop", [0, 9])
def test_extension_equals_the_plain_transformer(tmp_path: Path, mean: str, layout: str, crop: int) -> None:
    """Bit for bit: raw records, decoded (interleaved) images, float records and one channel."""
    shape = (1, 12, 14) if layout == "gray" else (3, 12, 14)
    images = noise_images(6, shape)
    settings = dict(MEAN[mean])
    if layout == "gray" and mean == "three":
        settings = {"mean_value": [3.25]}
    if mean == "file":
        write_mean(tmp_path / "mean.binaryproto", np.random.default_rng(1).random(shape, np.float32) * 255)
        settings["mean_file"] = tmp_path / "mean.binaryproto"
    transformer = Transformer(crop_size=crop, mirror=True, scale=0.017, **settings)
    maker = BatchMaker(transformer, threads=2)
    if layout == "decoded":
        batch, problems = maker.open_images(
            [np.ascontiguousarray(i.transpose(1, 2, 0)).transpose(2, 0, 1) for i in images]
        )
    else:
        values = images.astype(np.float32) / 3 if layout == "float" else images
        images = values
        batch, problems = maker.open_records([encode_datum(i) for i in values])
    assert not problems
    transformer.start_random(1)
    got = maker.transform(batch)
    transformer.start_random(1)
    expected = np.stack([transformer(image) for image in images])
    assert got.dtype == np.float32
    assert (got == expected).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_copied_bytes_are_the_images(channels: int) -> None:
    """From interleaved (decoded) images, of an odd width, and from planar ones."""
    images = noise_images(4, (channels, 9, 45))
    interleaved = [np.ascontiguousarray(image.transpose(1, 2, 0)).transpose(2, 0, 1) for image in images]
    maker = BatchMaker(Transformer(), threads=2)
    for given in (interleaved, list(images)):
        batch, problems = maker.open_images(given)
        assert not problems
        assert (maker.copy_bytes(batch) == images).all()


def test_large_batches_take_the_streaming_path() -> None:
    """Above the threshold rows go past the caches; the values stay the same."""
    images = noise_images(8, (3, 300, 310))
    transformer = Transformer(crop_size=299, mirror=True, mean_value=[5, 6, 7])
    maker = BatchMaker(transformer, threads=2)
    batch, _ = maker.open_records([encode_datum(i) for i in images])
    transformer.start_random(1)
    got = maker.transform(batch)
    assert got.nbytes > 8 << 20
    transformer.start_random(1)
    assert (got == np.stack([transformer(image) for image in images])).all()


def test_buffers_are_reused_only_when_free() -> None:
    transformer = Transformer()
    maker = BatchMaker(transformer)
    batch, _ = maker.open_records([encode_datum(i) for i in noise_images(2)])
    first = maker.transform(batch)
    second = maker.transform(batch)
    assert not np.shares_memory(first, second)
    address = first.ctypes.data
    del first
    assert maker.transform(batch).ctypes.data == address


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"crop_size": 20}, "image is 3x12x14 .*; expected at least 20x20 for crop_size 20"),
        ({"mean_value": [1, 2]}, "2 mean_value for 3 channels"),
    ],
)
def test_images_that_caffe_refuses(settings: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Transformer(**settings).output_shape(3, 12, 14)


def test_mean_of_another_size(tmp_path: Path) -> None:
    np.save(tmp_path / "mean.npy", np.zeros((3, 2, 2), np.float32))
    with pytest.raises(DataError, match=r"the mean file is 3x2x2"):
        Transformer(mean_file=tmp_path / "mean.npy").output_shape(3, 12, 14)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mean_file": "m", "mean_value": [1]}, "mean_file and mean_value are both set"),
        ({"force_color": True, "force_gray": True}, "force_color and force_gray are both set"),
        ({"mean_file": "absent.binaryproto"}, "absent.binaryproto: no such mean file"),
    ],
)
def test_settings_that_caffe_refuses(settings: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Transformer(**settings)
