"""A database as a map-style PyTorch dataset."""

import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from caffe_compat.data.database import open_database
from caffe_compat.data.datum import decode_image, parse_datum
from caffe_compat.errors import DataError


class LMDBDataset(Dataset[tuple[Any, int]]):
    """``dataset[i]`` is ``(image, label)`` of record ``i`` in key order.

    Picklable, and safe in threads and in DataLoader workers: each process opens the database when it first
    reads.  ``path`` may also be a subset's index file or a LevelDB.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        transform: Callable[[Tensor], Any] | None = None,
        color: bool | None = None,
    ) -> None:
        """``transform`` gets the image, a (C, H, W) tensor in BGR order, uint8 (float32 where the
        records hold floats).  ``color`` True or False: decode encoded images to 3 or 1 channels.

        Raises DataError when there is no usable database.
        """
        self.path = os.fspath(path)
        self.transform = transform
        self.color = color
        self._database = open_database(self.path)

    def __len__(self) -> int:
        return len(self._database)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        if index < 0:
            index += len(self)
        while True:
            try:
                image, label = self._read(index)
            except DataError:
                if not self._database.overtaken():
                    raise
            else:
                if not self._database.overtaken():
                    return (self.transform(image) if self.transform is not None else image), label
            self._database.keep_up()  # another process has written meanwhile, perhaps over what was read: once more

    def _read(self, index: int) -> tuple[Tensor, int]:
        key, value, label = self._database.record(index)
        try:
            datum = parse_datum(value)
            encoded = datum.encoded
            image = decode_image(datum.data, self.color).transpose(2, 0, 1) if encoded else datum.array()
        except DataError as error:
            raise DataError(f"{self.path}: record {key.decode(errors='replace')!r}: {error}") from None
        tensor = torch.from_numpy(image.copy())  # the record's memory belongs to the database
        return tensor, datum.label if label is None else label

    def close(self) -> None:
        """Release the database."""
        self._database.close()

    def __del__(self) -> None:
        if "_database" in self.__dict__:
            self.close()
