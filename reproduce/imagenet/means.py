"""The mean images of many subsets of one database, which is read once for all of them."""

from collections.abc import Callable, Mapping, Sequence
from itertools import islice

import numpy as np

from caffe_compat.data.batch import MEAN_CURES, BatchMaker
from caffe_compat.data.database import Database
from caffe_compat.data.transformer import Transformer
from caffe_compat.errors import DataError

#: mean of all training images by channel, B G R, as the authors' mean file and Caffe's have it
AUTHORS_MEAN = (104.007, 116.669, 122.679)
#: their two means of all classes differ by 0.2, as do libraries that decode JPEG; other channels or images by far more
MEAN_TOLERANCE = 0.5
_RECORDS_PER_BLOCK = 64


def subset_means(
    database: Database,
    members: Mapping[str, np.ndarray],
    progress: Callable[[int], None] | None = None,
    threads: int | None = None,
) -> dict[str, np.ndarray]:
    """{subset: mean image (C, H, W) float32}; ``members``: for each subset, whether each record (bool) is in it.

    Each sum runs in float32 in the records' order and is divided once, so that it has the bits of ``compute_mean`` on
    the subset alone; threads share the subsets.  ``progress`` is called with the number of records done.  Raises
    DataError when a record is damaged or of another size, or a subset is empty.
    """
    maker = BatchMaker(Transformer(), threads, cures=MEAN_CURES)
    totals: dict[str, np.ndarray] = {}
    records, first = iter(database), 0
    while block := list(islice(records, _RECORDS_PER_BLOCK)):
        batch, problems = maker.open_records([record.value for record in block])
        for index in sorted(problems):
            place = f"{database.path}: record {block[index].key.decode(errors='replace')!r}"
            raise DataError(f"{place}: {problems[index]}")
        images = maker.copy_bytes(batch)
        if not totals:
            totals = {name: np.zeros(images.shape[1:], np.float32) for name in members}
        if images.shape[1:] != next(iter(totals.values())).shape:
            raise DataError(
                f"{database.path}: record {first} is of another size than those before it; {MEAN_CURES.sizes}"
            )
        here = slice(first, first + len(block))
        jobs = [(totals[name], images[chosen[here]]) for name, chosen in members.items() if chosen[here].any()]
        maker.map(_add, jobs)
        first += len(block)
        if progress is not None:
            progress(first)
    maker.close()
    counts = {name: int(chosen[:first].sum()) for name, chosen in members.items()}
    for name, count in counts.items():
        if not count:
            raise DataError(f"{database.path}: no record of {name}; expected at least one for its mean")
    return {name: totals[name] / np.float32(count) for name, count in counts.items()}


def _add(job: tuple[np.ndarray, Sequence[np.ndarray]]) -> None:
    total, images = job
    for image in images:
        total += image


def compare_mean(mean: np.ndarray) -> tuple[str, bool]:
    """(what the mean of all training images (3, H, W) is beside the authors', whether they are equal enough)."""
    found = mean.mean(axis=(1, 2), dtype=np.float64)
    near = len(found) == len(AUTHORS_MEAN) and bool((abs(found - AUTHORS_MEAN) <= MEAN_TOLERANCE).all())
    ours, theirs = (" ".join(f"{value:.3f}" for value in values) for values in (found, AUTHORS_MEAN))
    verdict = (
        "equals the authors' up to decoding and resizing" if near else "is not the authors': other images or channels"
    )
    return f"{ours} (B G R), the authors' is {theirs}: {verdict}", near
