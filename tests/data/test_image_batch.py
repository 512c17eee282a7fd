"""The twin of the extension's ImageBatch beside it: the same headers and the same bits."""

import cv2
import numpy as np
import pytest

from caffe_compat import extension
from caffe_compat.data import encode_datum, encode_image
from caffe_compat.data.image_batch import BAD, BYTES, EMPTY, ENCODED, FLOATS, PlainImageBatch, image_batch_type
from tests.data.conftest import noise_images

needs_extension = pytest.mark.skipif(extension.load() is None, reason="compares with the extension")
IMAGES = noise_images(4, (3, 9, 11))
RECORDS = [
    encode_datum(IMAGES[0], 5),
    encode_datum(IMAGES[1].astype(np.float32) / 7, -2),
    encode_datum(IMAGES[2], None),
]
OTHERS = [encode_image(cv2.imencode(".png", IMAGES[0, 0])[1].tobytes(), 9), b"\x08"]


@pytest.fixture
def pair() -> tuple[PlainImageBatch, PlainImageBatch]:
    """(the extension's, the twin)"""
    return extension.require("this test").ImageBatch(RECORDS, 2), PlainImageBatch(RECORDS, 2)


def test_without_the_extension_the_twin_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extension, "load", lambda: None)
    assert image_batch_type() is PlainImageBatch


def test_headers_and_what_they_count() -> None:
    batch = PlainImageBatch(RECORDS + OTHERS)
    assert batch.headers().tolist() == [
        [BYTES, 3, 9, 11, 5],
        [FLOATS, 3, 9, 11, -2],
        [BYTES, 3, 9, 11, 0],
        [ENCODED, 0, 0, 0, 9],
        [BAD, 0, 0, 0, 0],
    ]
    assert batch.headers().dtype == np.int32
    assert batch.value_counts().tolist() == [297, 297, 297, 0, 0]
    assert len(batch) == 5
    assert batch.error(4).startswith("record ends inside a field")
    decoded = cv2.imdecode(np.frombuffer(batch.encoded(3), np.uint8), 0)
    assert decoded is not None
    assert decoded.tolist() == IMAGES[0, 0].tolist()


@needs_extension
def test_headers_are_the_extensions() -> None:
    theirs = extension.require("this test").ImageBatch(RECORDS + OTHERS[:1], 1)
    ours = PlainImageBatch(RECORDS + OTHERS[:1])
    assert np.array_equal(theirs.headers(), ours.headers())
    assert theirs.headers().dtype == ours.headers().dtype
    assert np.array_equal(theirs.value_counts(), ours.value_counts())
    assert bytes(theirs.encoded(3)) == bytes(ours.encoded(3))


@needs_extension
@pytest.mark.parametrize("mean", ["none", "channels", "image"])
def test_transform_has_the_extensions_bits(pair: tuple[PlainImageBatch, PlainImageBatch], mean: str) -> None:
    rng = np.random.default_rng(1)
    means = {"none": None, "channels": rng.random(3, np.float32), "image": rng.random((3, 9, 11), np.float32)}
    windows = np.array([[0, 0, 0], [2, 3, 1], [1, 4, 1]], np.int32)
    results = [np.empty((3, 3, 7, 6), np.float32) for _ in pair]
    for batch, result in zip(pair, results, strict=True):
        batch.transform(result, windows, means[mean], 0.017, 2)
    assert np.array_equal(results[0], results[1])
    plain = IMAGES[0].astype(np.float32)
    if mean == "none":
        assert np.array_equal(results[1][0], plain[:, :7, :6] * np.float32(0.017))


@needs_extension
def test_sums_have_the_extensions_bits(pair: tuple[PlainImageBatch, PlainImageBatch]) -> None:
    totals = [np.full((3, 9, 11), np.float32(1e7)) for _ in pair]
    for batch, total in zip(pair, totals, strict=True):
        batch.add_to(total, 2)
    assert np.array_equal(totals[0], totals[1])


def test_images_put_in_place() -> None:
    batch = PlainImageBatch(2)
    assert batch.headers()[:, 0].tolist() == [EMPTY, EMPTY]
    for index in range(2):
        batch.set_image(index, np.ascontiguousarray(IMAGES[index].transpose(1, 2, 0)).transpose(2, 0, 1))
    out = np.empty((2, 3, 9, 11), np.uint8)
    batch.copy_bytes(out)
    assert np.array_equal(out, IMAGES[:2])
    with pytest.raises(ValueError, match=r"expected \(channels, height, width\)"):
        batch.set_image(0, IMAGES[0, 0])


def test_empty_places_cannot_be_used() -> None:
    with pytest.raises(ValueError, match="place 0 has no image"):
        PlainImageBatch(1).copy_bytes(np.empty((1, 1, 1, 1), np.uint8))
