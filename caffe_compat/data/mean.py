"""Mean images: read (.binaryproto, .npy), and computed from a database."""

import io
import os
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from caffe_compat.atomic_file import write_bytes
from caffe_compat.data.database import Database
from caffe_compat.data.lmdb import Record
from caffe_compat.errors import DataError
from caffe_compat.proto import read_blob, write_blob

_RECORDS_PER_BLOCK = 64


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


def compute_mean(
    database: Database, progress: Callable[[int], None] | None = None, threads: int | None = None
) -> np.ndarray:
    """Mean image (C, H, W) float32 of all records, encoded ones decoded.

    The sum runs in float32 in the records' order and is divided once, as in Caffe's
    compute_image_mean, so that the bits agree; threads share the pixels, not the records.
    ``progress`` is called with the number of records done.  Raises DataError when a record is
    damaged or of another size.
    """
    from caffe_compat.data.batch import BatchMaker  # the extension needs torch, reading a mean does not
    from caffe_compat.data.transformer import Transformer

    maker = BatchMaker(Transformer(), threads)
    total: np.ndarray | None = None
    done = 0
    for records in _blocks(database):
        batch, problems = maker.open_records([record.value for record in records])
        for index in sorted(problems):
            place = f"{database.path}: record {records[index].key.decode(errors='replace')!r}"
            raise DataError(f"{place}: {problems[index]}")
        shape = tuple(batch.headers()[0, 1:4].tolist())
        if total is None:
            total = np.zeros(shape, np.float32)
        elif total.shape != shape:
            raise DataError(
                f"{database.path}: record {records[0].key.decode(errors='replace')!r} is {shape} (C, H, W), those "
                f"before it {total.shape}; a mean needs one size: convert again with resize_height and resize_width"
            )
        batch.add_to(total, maker.map.threads)
        done += len(records)
        if progress is not None:
            progress(done)
    maker.close()
    assert total is not None  # readers refuse empty databases
    return total / np.float32(done)


def _blocks(database: Database) -> Iterator[list[Record]]:
    records = iter(database)
    while block := list(islice(records, _RECORDS_PER_BLOCK)):
        yield block
