"""Batches from a database, in Caffe's order: the work behind the Data layer and Loader."""

from collections.abc import Callable
from operator import index
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from caffe_compat.data.bad_records import BadRecords
from caffe_compat.data.batch import BatchMaker
from caffe_compat.data.database import Database
from caffe_compat.data.datum import parse_datum
from caffe_compat.data.image_batch import PlainImageBatch
from caffe_compat.data.lmdb_pages import Record
from caffe_compat.data.transformer import Transformer
from caffe_compat.errors import DataError

T = TypeVar("T")


class DatabaseSource:
    """Reads, decodes and transforms records into batches; starts again after the last record.

    Rank ``rank`` of ``rank_count`` takes the records whose number (counted on through the
    epochs) leaves ``rank`` when divided by ``rank_count``, as Caffe's data layer does.
    """

    def __init__(
        self,
        database: Database,
        transformer: Transformer,
        batch_size: int,
        *,
        rank: int = 0,
        rank_count: int = 1,
        skip_bad_records: int = 0,
        threads: int | None = None,
    ) -> None:
        """``threads``: how many decode and transform (None: as many as there are cores)."""
        self.database = database
        self.transformer = transformer
        self.maker = BatchMaker(transformer, threads)
        self.batch_size = batch_size
        self.rank = rank
        self.rank_count = rank_count
        self.bad_records = BadRecords(skip_bad_records)
        self._offset = 0  # records passed, those of other ranks included
        self._cursor: Any = None

    def peek_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the transformed first record; DataError when it is unusable."""
        key, value, _ = self.database.cursor().next()
        try:
            return self.transformer.output_shape(*self.transformer.image_of(parse_datum(value)).shape)
        except DataError as error:
            raise DataError(f"{self._place(key)}: {error}") from None

    def first_is_encoded(self) -> bool:
        """Whether the first record is an image file."""
        return parse_datum(self.database.cursor().next().value).encoded

    def load(self) -> tuple[Tensor, Tensor]:
        """The next batch: data (N, C, H, W) float32 and labels (N) float32."""
        return self.make(
            lambda batch, labels: (
                torch.from_numpy(self.maker.transform(batch)),
                torch.from_numpy(labels.astype(np.float32)),
            )
        )

    def read(self) -> tuple[PlainImageBatch, np.ndarray]:
        """The next images as an ImageBatch, decoded but not transformed, and labels (N) int32."""
        return self.make(lambda batch, labels: (batch, labels))

    def make(self, use: Callable[[PlainImageBatch, np.ndarray], T]) -> T:
        """What ``use`` makes of the next images (an ImageBatch, which may view the database) and labels.

        ``use`` is called again, with the batch read anew, where another process may have written over it meanwhile.
        """
        return self.undisturbed(lambda: use(*self._read()))

    def undisturbed(self, work: Callable[[], T]) -> T:
        """What ``work`` makes of the next records, from the same place again where another process may have written
        over them meanwhile."""
        while True:
            cursor = self._keep_up()
            offset, position, bad_records = self._offset, cursor.position(), self.bad_records.count
            random = self.random_state()
            try:
                result = work()
            except DataError:
                if not self.database.overtaken():
                    raise
            else:
                if not self.database.overtaken():
                    return result
            cursor.go_back(position)
            self._offset, self.bad_records.count = offset, bad_records
            self.set_random_state(random)

    def _keep_up(self) -> Any:
        """The cursor, in the present state of the database."""
        if self._cursor is None:
            self._cursor = self.database.cursor()
        self._cursor.keep_up()
        return self._cursor

    def _read(self) -> tuple[PlainImageBatch, np.ndarray]:
        records: list[Record] = []
        while True:
            records += self._take(self.batch_size - len(records))
            batch, problems = self.maker.open_records([record.value for record in records])
            if not problems:
                return batch, self._labels(batch, records)
            for number in sorted(problems):
                self.bad_records.pass_over(self._place(records[number].key), problems[number])
            records = [record for number, record in enumerate(records) if number not in problems]

    def pass_over(self, count: int) -> None:
        """Go on behind the next ``count`` records, which are neither read nor transformed."""
        self._keep_up().skip(count)
        self._offset += count

    @property
    def passed(self) -> int:
        """How many records have been passed, through all epochs."""
        return self._offset

    def state(self) -> dict[str, Any]:
        """Position and random state after the batches loaded so far."""
        return {
            "offset": self._offset,
            "position": self._cursor.position() if self._cursor is not None else None,
            "random": self.random_state(),
            "bad_records": self.bad_records.count,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from a ``state``; DataError, with nothing changed, when its record is not there."""
        cursor = None
        if state["position"] is not None:
            cursor = self.database.cursor()
            cursor.keep_up()
            cursor.seek(state["position"])
        self._offset, self._cursor = index(state["offset"]), cursor
        self.set_random_state(state["random"])
        self.bad_records.count = state["bad_records"]

    def random_state(self) -> str | None:
        """Where the random streams stand."""
        return self.transformer.get_state()

    def set_random_state(self, state: str | None) -> None:
        """Continue from a ``random_state``."""
        self.transformer.set_state(state)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cursor": None, "_resume": self.state()}

    def __setstate__(self, saved: dict[str, Any]) -> None:
        resume = saved.pop("_resume")
        self.__dict__.update(saved)
        self.set_state(resume)

    def close(self) -> None:
        """Release the database, end the threads."""
        self._cursor = None
        self.maker.close()
        self.database.close()

    def __del__(self) -> None:
        # `del net` gives the file back; a batch keeps no view of a record.
        if "database" in self.__dict__:
            self.database.close()

    def _labels(self, batch: PlainImageBatch, records: list[Record]) -> np.ndarray:
        labels = batch.headers()[:, 4]
        if records[0].label is not None:
            labels = np.array([record.label for record in records], np.int32)
        return labels

    def _take(self, count: int) -> list[Record]:
        if self.rank_count == 1:
            self._offset += count
            result: list[Record] = self._cursor.take(count)
            return result
        records: list[Record] = []
        for _ in range(count):
            others = (self.rank - self._offset) % self.rank_count  # records of other ranks
            self._cursor.skip(others)
            self._offset += others + 1
            records += self._cursor.take(1)
        return records

    def _place(self, key: bytes) -> str:
        return f"{self.database.path}: record {key.decode(errors='replace')!r}"
