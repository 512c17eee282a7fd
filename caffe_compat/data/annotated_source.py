"""Batches from a database of SSD's AnnotatedDatum: the work behind the AnnotatedData layer."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from caffe_compat.data.annotated_transformer import AnnotatedTransformer, Plan
from caffe_compat.data.annotations import AnnotatedRecord, parse_annotated
from caffe_compat.data.database import Database
from caffe_compat.data.database_source import DatabaseSource
from caffe_compat.data.datum import Buffer
from caffe_compat.data.image_step import Image
from caffe_compat.data.lmdb_pages import Record
from caffe_compat.data.thread_map import ThreadMap
from caffe_compat.errors import DataError

_NO_BOX = -1.0  # all numbers of the one row of a batch without boxes
ROW = 8  # item, label, instance, xmin, ymin, xmax, ymax, difficult


class _Opened(NamedTuple):
    record: AnnotatedRecord
    image: Image


class AnnotatedSource(DatabaseSource):
    """Reads, decodes and transforms records in Caffe's order.

    Images are decoded in threads, then the random numbers are drawn one image after the other, then the pixels are
    transformed in threads.
    """

    def __init__(
        self,
        database: Database,
        annotated: AnnotatedTransformer,
        batch_size: int,
        *,
        anno_type: str | None,
        rank: int = 0,
        rank_count: int = 1,
        skip_bad_records: int = 0,
    ) -> None:
        """``anno_type``: of all records, in place of what each says.  DataError for a type other than BBOX."""
        super().__init__(
            database,
            annotated.plain,
            batch_size,
            rank=rank,
            rank_count=rank_count,
            skip_bad_records=skip_bad_records,
        )
        self.annotated = annotated
        self._anno_type = anno_type
        self._map = ThreadMap()
        key, value, _ = database.cursor().next()
        try:
            first = self._open(value)
            #: whether there are boxes; else each image has a label
            self.has_boxes = anno_type is not None or first.record.type is not None
            self.first_shape = annotated.output_shape(*first.image.shape)  # (C, H, W)
            self.first_boxes = len(first.record.annotations)
            self._check_type(first.record)
        except DataError as error:
            raise DataError(f"{self._place(key)}: {error}") from None

    def load(self) -> tuple[Tensor, Tensor]:
        """The next batch: data (N, C, H, W) and boxes (1, 1, boxes, 8), or labels (N) where there are none; float32."""
        return self.undisturbed(self._load)

    def close(self) -> None:
        """Release the database, end the threads."""
        self._map.close()
        super().close()

    def random_state(self) -> str:
        """Where the random streams stand."""
        return self.annotated.get_state()

    def set_random_state(self, state: str | None) -> None:
        """Continue from a ``random_state``."""
        if state is not None:
            self.annotated.set_state(state)

    def _load(self) -> tuple[Tensor, Tensor]:
        opened = self._read_opened()
        plans = [self.annotated.plan(one.record, one.image) for one in opened]
        sizes = {plan.size for plan in plans}
        channels = {one.image.shape[2] for one in opened}
        if len(sizes) > 1 or len(channels) > 1:
            raise DataError(
                f"{self.database.path}: images of a batch come out in sizes {sorted(sizes)} (height, width) with "
                f"{sorted(channels)} channels; expected one: set resize_param, or crop_size, and force_color"
            )
        pairs = [(one.image, plan) for one, plan in zip(opened, plans, strict=True)]
        images = self._map(lambda pair: self.annotated.apply(*pair), pairs)
        data = torch.from_numpy(np.stack(images))
        return data, torch.from_numpy(self._labels_of(opened, plans))

    def _labels_of(self, opened: list[_Opened], plans: list[Plan]) -> np.ndarray:
        if not self.has_boxes:
            return np.array([one.record.datum.label for one in opened], np.float32)
        rows = np.concatenate([plan.annotations.rows(item) for item, plan in enumerate(plans)])
        return rows.reshape(1, 1, -1, ROW) if len(rows) else np.full((1, 1, 1, ROW), _NO_BOX, np.float32)

    def _read_opened(self) -> list[_Opened]:
        records: list[Record] = []
        while True:
            records += self._take(self.batch_size - len(records))
            opened = self._map(self._try_open, [record.value for record in records])
            problems = [one if isinstance(one, DataError) else None for one in opened]
            for record, problem in zip(records, problems, strict=True):
                if problem is not None:
                    self.bad_records.pass_over(self._place(record.key), problem)
            if not any(problems):
                return [one for one in opened if not isinstance(one, DataError)]
            records = [record for record, problem in zip(records, problems, strict=True) if problem is None]

    def _try_open(self, value: Buffer) -> _Opened | DataError:
        try:
            opened = self._open(value)
            self._check_type(opened.record)
            self.annotated.output_shape(*opened.image.shape)
        except DataError as error:
            return error
        return opened

    def _open(self, value: Buffer) -> _Opened:
        record = parse_annotated(value)
        return _Opened(record, self.annotated.image_of(record))

    def _check_type(self, record: AnnotatedRecord) -> None:
        if not self.has_boxes:
            if not record.has_label:
                raise DataError("has neither a type nor a label; expected boxes (type: BBOX) or a label")
            return
        if record.type is None:
            raise DataError("has no type, the records before it have; expected BBOX")
        kind = self._anno_type or record.type
        if kind != "BBOX":
            raise DataError(f"is of type {kind}; expected BBOX, boxes")
