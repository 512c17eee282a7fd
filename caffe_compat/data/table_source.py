"""Batches looked up in a table of what becomes of every image in every window: each is computed once.

For a small database that training passes over many times, with few windows an image.
"""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from caffe_compat.data.database_source import DatabaseSource
from caffe_compat.data.lmdb_pages import Record
from caffe_compat.errors import DataError

#: of images (N, C, H, W), as the data layer makes them: (N, ...), each image by itself
Features = Callable[[Tensor], Tensor]


class TableSource:
    """The batches of a ``DatabaseSource``, with ``features(images)`` in place of the images.

    Same order, same random windows, same states to go on from: only the table is new, which is made at the first batch,
    image after image in batches of the source's size, so that its numbers do not depend on where training stands.
    The database must stay as it is.
    """

    def __init__(self, source: DatabaseSource, features: Features) -> None:
        """``source`` must be ``is_suited``."""
        self.source, self._features = source, features
        self._ahead = 0  # records that have been handed out, and that the source has not passed yet
        self._count = len(source.database)
        _, height, width = _first_image(source)
        self._sizes = np.tile(np.array([height, width]), (source.batch_size, 1))
        self._windows = _windows(source, height, width)
        self._table: Tensor | None = None
        self._labels: Tensor | None = None

    def load(self) -> tuple[Tensor, Tensor]:
        """The next batch: features (N, ...) float32 and labels (N) float32."""
        if self._table is None or self._labels is None:
            self._table, self._labels = self._make()
        number = (self.source.passed + self._ahead + np.arange(self.source.batch_size)) % self._count
        rows = number * len(self._windows)
        windows = self.source.transformer.draw_windows(self._sizes)
        if len(self._windows) > 1:
            first_column, last_column = self._windows[[0, -1], 1]
            rows += windows[:, 0] * (last_column - first_column + 1) + windows[:, 1]
        self._ahead += self.source.batch_size
        return self._table[torch.from_numpy(rows)], self._labels[torch.from_numpy(number)]

    def state(self) -> dict[str, Any]:
        """As DatabaseSource's."""
        self.source.pass_over(self._ahead)
        self._ahead = 0
        return self.source.state()

    def set_state(self, state: dict[str, Any]) -> None:
        """As DatabaseSource's."""
        self.source.set_state(state)
        self._ahead = 0

    def close(self) -> None:
        """Release the database."""
        self.source.close()

    def _make(self) -> tuple[Tensor, Tensor]:
        source, cursor = self.source, self.source.database.cursor()
        table: Tensor | None = None
        labels = []
        for first in range(0, self._count, source.batch_size):
            records = cursor.take(min(source.batch_size, self._count - first))
            images, headers = _open(source, records)
            channels = int(headers[0, 1])
            labels.append(np.array([_label(r, h) for r, h in zip(records, headers, strict=True)], np.float32))
            for place, (top, left) in enumerate(self._windows.tolist()):
                out = np.empty((len(records), *source.transformer.output_shape(*headers[0, 1:4].tolist())), np.float32)
                windows = np.tile(np.array([top, left, 0], np.int32), (len(records), 1))
                transformer = source.transformer
                mean = transformer.mean_for(channels)
                images.transform(out, windows, mean, float(transformer.scale), source.maker.map.threads)
                made = self._features(torch.from_numpy(out))
                if table is None:
                    table = made.new_empty((self._count, len(self._windows), *made.shape[1:]))
                table[first : first + len(records), place] = made
        assert table is not None
        return table.flatten(0, 1), torch.from_numpy(np.concatenate(labels))


def table_rows(source: DatabaseSource) -> int:
    """How many rows the table of a source would have: images times windows.  Reads one record."""
    _, height, width = _first_image(source)
    return len(source.database) * len(_windows(source, height, width))


def is_suited(source: DatabaseSource) -> bool:
    """Whether batches of ``source`` can be looked up: one process, no mirror, whole records of one size."""
    one = source.rank_count == 1 and not source.transformer.mirror and not source.bad_records.allowed
    if not one or not len(source.database):
        return False
    cursor, sizes = source.database.cursor(), set[tuple[int, ...]]()
    for first in range(0, len(source.database), source.batch_size):
        records = cursor.take(min(source.batch_size, len(source.database) - first))
        batch, problems = source.maker.open_records([record.value for record in records])
        sizes |= set(map(tuple, batch.headers()[:, 1:4].tolist()))
        if problems or len(sizes) > 1:
            return False
    return True


def _first_image(source: DatabaseSource) -> Sequence[int]:
    """(C, H, W) of the first record, before it is transformed."""
    _, headers = _open(source, source.database.cursor().take(1))
    return tuple(map(int, headers[0, 1:4]))


def _windows(source: DatabaseSource, height: int, width: int) -> np.ndarray:
    """(N, 2): top and left of all windows that the transformer can draw, row by row."""
    transformer = source.transformer
    if not transformer.is_random:
        return transformer.draw_windows(np.array([[height, width]]))[:, :2]
    return np.indices((height - transformer.crop_size + 1, width - transformer.crop_size + 1)).reshape(2, -1).T


def _open(source: DatabaseSource, records: Sequence[Record]) -> tuple[Any, np.ndarray]:
    batch, problems = source.maker.open_records([record.value for record in records])
    for number, problem in problems.items():
        raise DataError(f"{source.database.path}: record {records[number].key.decode(errors='replace')!r}: {problem}")
    return batch, batch.headers()


def _label(record: Record, header: np.ndarray) -> int:
    return int(header[4]) if record.label is None else record.label


def table_bytes(rows: int, shape: Sequence[int]) -> int:
    """What a table of float32 features of this shape takes."""
    return rows * prod(shape) * torch.float32.itemsize
