"""Batches, made by the extension and by its twin."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from caffe_compat.data import Transformer, encode_datum, encode_image, write_mean
from caffe_compat.data.batch import DATABASE_CURES, IMAGE_FILE_CURES, MEAN_CURES, BatchMaker, Cures
from caffe_compat.errors import DataError
from tests.data.conftest import noise_images

MEAN = {"none": {}, "one": {"mean_value": [101.5]}, "three": {"mean_value": [1.5, 100, 200]}, "file": {}}


@pytest.mark.usefixtures("image_batches")
@pytest.mark.parametrize("mean", MEAN)
@pytest.mark.parametrize("layout", ["raw", "decoded", "float", "gray"])
@pytest.mark.parametrize("crop", [0, 9])
def test_a_batch_equals_the_transformer_on_each_image(tmp_path: Path, mean: str, layout: str, crop: int) -> None:
    """Bit for bit: raw records, decoded (interleaved) images, float records and one channel."""
    shape = (1, 12, 14) if layout == "gray" else (3, 12, 14)
    images = noise_images(6, shape)
    settings: dict[str, Any] = dict(MEAN[mean])
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


@pytest.mark.usefixtures("image_batches")
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


@pytest.mark.usefixtures("image_batches")
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


@pytest.mark.usefixtures("image_batches")
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


@pytest.mark.usefixtures("image_batches")
def test_problems_are_those_of_each_image() -> None:
    """The good ones around them say what size the batch has."""
    images = noise_images(2, (3, 12, 14))
    records = [
        encode_datum(images[0]),
        b"\x08",
        encode_image(b"no image"),
        encode_datum(noise_images(1, (3, 11, 14))[0]),
        encode_datum(images[1]),
    ]
    batch, problems = BatchMaker(Transformer()).open_records(records)
    assert len(batch) == 5
    assert {index: str(problem).split(";")[0] for index, problem in problems.items()} == {
        1: "record ends inside a field",
        2: "image: 8 bytes that cannot be decoded",
        3: "gives 3x11x14 (channels x height x width), the first of its batch 3x12x14",
    }
    batch, problems = BatchMaker(Transformer(crop_size=13)).open_records(records[:1] * 2)
    assert [str(problems[i]) for i in (0, 1)] == [
        "image is 3x12x14 (channels x height x width); expected at least 13x13 for crop_size 13"
    ] * 2


@pytest.mark.usefixtures("image_batches")
def test_an_error_in_place_of_an_image_is_its_problem() -> None:
    image, error = noise_images(1)[0], DataError("gone")
    _, problems = BatchMaker(Transformer()).open_images([image, error])
    assert problems == {1: error}


@pytest.mark.usefixtures("image_batches")
def test_an_image_that_is_not_whole_cannot_be_transformed() -> None:
    maker = BatchMaker(Transformer())
    batch, problems = maker.open_records([b"\x08"])
    assert list(problems) == [0]
    with pytest.raises(ValueError, match="place 0 has no image"):
        batch.transform(np.empty((1, 1, 1, 1), np.float32), np.zeros((1, 3), np.int32), None, 1.0, 1)


@pytest.mark.usefixtures("image_batches")
def test_a_window_must_lie_inside_its_image() -> None:
    batch, _ = BatchMaker(Transformer()).open_images([noise_images(1, (1, 4, 4))[0]])
    out = np.empty((1, 1, 3, 3), np.float32)
    for window in ((2, 0, 0), (0, 2, 0), (-1, 0, 0)):
        with pytest.raises(ValueError, match="window 0 leaves its image"):
            batch.transform(out, np.array([window], np.int32), None, 1.0, 1)


@pytest.mark.parametrize(
    ("cures", "sizes", "raw", "files"),
    [
        (DATABASE_CURES, "resize_height and resize_width, or set crop_size", "all with --gray", "set force_color or"),
        (MEAN_CURES, "convert again with resize_height and resize_width", "all with --gray", "without --encoded"),
    ],
)
def test_the_cure_is_one_for_what_differs(cures: Cures, sizes: str, raw: str, files: str) -> None:
    gray, colour = np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.uint8)
    maker = BatchMaker(Transformer(), cures=cures)

    def told(*records: bytes) -> str:
        _, problems = maker.open_records(records)
        return str(problems[1])

    def png(image: np.ndarray) -> bytes:
        record: bytes = encode_image(cv2.imencode(".png", image)[1].tobytes())
        return record

    assert sizes in told(encode_datum(np.zeros((3, 4, 4), np.uint8)), encode_datum(np.zeros((3, 5, 4), np.uint8)))
    assert raw in told(encode_datum(np.zeros((3, 4, 4), np.uint8)), encode_datum(np.zeros((1, 4, 4), np.uint8)))
    assert files in told(png(colour), png(gray))
    assert "crop_size" not in told(png(colour), png(gray))


def test_the_cure_of_image_files() -> None:
    maker = BatchMaker(Transformer(), cures=IMAGE_FILE_CURES)
    _, problems = maker.open_images([np.zeros((3, 4, 4), np.uint8), np.zeros((3, 5, 4), np.uint8)])
    assert str(problems[1]).endswith("the first of its batch 3x4x4; set new_height and new_width, or crop_size")


def test_where_the_system_gives_no_more_threads_those_there_are_make_the_batch() -> None:
    """A process without room for another thread's stack stands for a container that limits processes."""
    script = """
import resource
import numpy as np
from caffe_compat.data import Transformer, encode_datum
from caffe_compat.data.batch import BatchMaker

images = np.random.default_rng(1).integers(0, 256, (64, 3, 40, 40), dtype=np.uint8)
records = [encode_datum(image, 0) for image in images]
maker = BatchMaker(Transformer(), threads=8)
batch, problems = maker.open_records(records)
expected = maker.transform(batch).copy()
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + (4 << 20), size + (4 << 20)))
another, _ = BatchMaker(Transformer(), threads=64).open_records(records)
assert np.array_equal(BatchMaker(Transformer(), threads=64).transform(another), expected)
assert np.array_equal(expected, images.astype(np.float32))
print("made")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "made\n", done.stderr
