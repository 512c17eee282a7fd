"""Mean images: read (.binaryproto, .npy), and computed from a database."""

import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from caffe_compat.atomic_file import write_bytes
from caffe_compat.data.database import Database
from caffe_compat.data.datum import decode_image, parse_datum
from caffe_compat.errors import DataError
from caffe_compat.proto import read_blob, write_blob


def read_mean(path: str | os.PathLike[str]) -> np.ndarray:
    """Mean image (C, H, W) float32 from a ``.binaryproto`` (BlobProto) or ``.npy`` file.

    Raises DataError when the file is missing, damaged, or not one image.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such mean file; make it with compute_image_mean")
    if path.suffix == ".npy":
        try:
            mean = np.load(path)
        except (ValueError, OSError) as error:
            raise DataError(f"{path}: cannot be read as a NumPy array: {error}") from None
    else:
        mean = read_blob(path)
    while mean.ndim > 3 and mean.shape[0] == 1:
        mean = mean[0]
    if mean.ndim != 3:
        raise DataError(f"{path}: mean has shape {mean.shape}; expected one image (channels, height, width)")
    return np.ascontiguousarray(mean, np.float32)


def write_mean(path: str | os.PathLike[str], mean: np.ndarray) -> None:
    """Write a (C, H, W) mean as ``.npy`` or else as a BlobProto, in the 4-axis form of Caffe's tool."""
    if Path(path).suffix == ".npy":
        buffer = io.BytesIO()
        np.save(buffer, np.asarray(mean, np.float32))
        write_bytes(path, buffer.getvalue())
        return
    write_blob(path, np.asarray(mean, np.float32)[None])


def compute_mean(database: Database, progress: Callable[[int], None] | None = None) -> np.ndarray:
    """Mean image (C, H, W) float32 of all records, encoded ones decoded.

    The sum runs in float32 in the records' order and is divided once, as in Caffe's
    compute_image_mean, so that the bits agree.  ``progress`` is called with the number of
    records done.  Raises DataError when a record is damaged or of another size.
    """
    total: np.ndarray | None = None
    count = 0
    for count, record in enumerate(database, 1):
        try:
            datum = parse_datum(record.value)
            image = decode_image(datum.data).transpose(2, 0, 1) if datum.encoded else datum.array()
        except DataError as error:
            raise DataError(f"{database.path}: record {record.key!r}: {error}") from None
        if total is None:
            total = np.zeros(image.shape, np.float32)
        elif total.shape != image.shape:
            raise DataError(
                f"{database.path}: record {record.key!r} is {image.shape} (C, H, W), the first {total.shape}; "
                "a mean needs one size: convert again with resize_height and resize_width"
            )
        total += image
        if progress is not None:
            progress(count)
    assert total is not None  # readers refuse empty databases
    return total / np.float32(count)
