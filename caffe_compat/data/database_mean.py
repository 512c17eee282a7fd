"""The mean image of a database."""

from collections.abc import Callable, Iterator
from itertools import islice

import numpy as np

from caffe_compat.data.batch import MEAN_CURES, BatchMaker
from caffe_compat.data.database import Database
from caffe_compat.data.datum import parse_datum
from caffe_compat.data.lmdb import being_written
from caffe_compat.data.lmdb_pages import Record
from caffe_compat.data.transformer import Transformer
from caffe_compat.errors import DataError

_RECORDS_PER_BLOCK = 64
#: fewer records are added up before the extension would be loaded
_FEW = 1000


def compute_mean(
    database: Database, progress: Callable[[int], None] | None = None, threads: int | None = None
) -> np.ndarray:
    """Mean image (C, H, W) float32 of all records, encoded ones decoded.

    The sum runs in float32 in the records' order and is divided once, as in Caffe's
    compute_image_mean, so that the bits agree; threads share the pixels, not the records.
    ``progress`` is called with the number of records done.  Raises DataError when a record is
    damaged or of another size.
    """
    if threads is not None and threads < 1:
        raise DataError(f"threads is {threads}; expected at least 1")
    maker = BatchMaker(Transformer(), threads, cures=MEAN_CURES, plain=len(database) < _FEW)
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
            files = parse_datum(records[0].value).encoded
            channels = MEAN_CURES.channels_of_files if files else MEAN_CURES.channels
            raise DataError(
                f"{database.path}: record {records[0].key.decode(errors='replace')!r} is {shape} (C, H, W), those "
                f"before it {total.shape}; {MEAN_CURES.sizes if shape[0] == total.shape[0] else channels}"
            )
        batch.add_to(total, maker.map.threads)
        if database.overtaken():
            raise being_written(database.path)
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
