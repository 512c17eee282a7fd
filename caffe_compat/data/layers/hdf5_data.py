"""HDF5Data: one dataset per top, from the HDF5 files named in a list."""

import os
from operator import index
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor

from caffe_compat.data.identity import digest, file_identity
from caffe_compat.data.libc_random import process_random
from caffe_compat.data.source_layer import SourceLayer
from caffe_compat.errors import DataError, reading, seen_from
from caffe_compat.layers.base import Shape
from caffe_compat.layers.registry import register
from caffe_compat.proto.hdf5 import check_held


@register("HDF5Data")
class HDF5Data(SourceLayer):
    """Tops: the datasets of their names, (N, ...); rows in order, file after file.

    ``shuffle`` reorders the files, and the rows within a file, by the C library's ``rand`` as in
    Caffe: the same order in every run, whatever the random seed.
    """

    param_fields = ("hdf5_data_param",)
    top_count = (1, None)
    prefetch_depth = 0  # files are read whole, in the order of the process-wide random stream

    def setup(self, *bottom_shapes: Shape) -> None:
        """Read the list and the first file."""
        param = self.param.hdf5_data_param
        if self.param.HasField("transform_param"):
            self.fail("transform_param is set, but HDF5Data does not transform data; remove it")
        if param.batch_size < 1:
            self.fail(f"hdf5_data_param.batch_size is {param.batch_size}; expected at least 1")
        sharing = self.phase == "TRAIN"
        with self._errors_with_place():
            self.source: HDF5Source = HDF5Source(
                param.source,
                list(self.param.top),
                param.batch_size,
                shuffle=param.shuffle,
                dtype=torch.empty(0, dtype=self.context.dtype).numpy().dtype,
                rank=self.context.solver_rank if sharing else 0,
                rank_count=self.context.solver_count if sharing else 1,
            )

    def infer_shapes(self, *bottom_shapes: Shape) -> list[Shape]:
        """(N, ...) of each dataset."""
        return self.source.shapes()

    def shapes_without_data(self) -> list[Shape]:
        """Its fields tell the batch's size only."""
        self.fail("the shapes of its tops are those of the datasets, and not in its fields")

    def source_identity(self) -> dict[str, str]:
        """With the list and its files; the tops name the datasets."""
        files = self.source.files
        content = digest(f"{file} {file_identity(file)}".encode() for file in files)
        tops = ", ".join(self.param.top)
        return {**super().source_identity(), "tops": tops, "content": f"{len(files)} files ({content})"}


class HDF5Source:
    """Batches of rows from a list of HDF5 files, one file in memory at a time."""

    def __init__(
        self,
        list_path: str,
        names: list[str],
        batch_size: int,
        *,
        shuffle: bool = False,
        dtype: Any = np.float32,
        rank: int = 0,
        rank_count: int = 1,
    ) -> None:
        """``names``: the datasets, in the order of the tops.  Raises DataError for unusable files."""
        try:
            text = Path(list_path).read_bytes()
        except OSError as error:
            raise DataError(
                f"{list_path}: cannot be read: {error.strerror}; expected names of HDF5 files{seen_from(list_path)}"
            ) from None
        if text.startswith(b"\x89HDF"):
            raise DataError(f"{list_path}: is an HDF5 file; source has to be a text file with the names of such files")
        self.files = os.fsdecode(text).split()
        if not self.files:
            raise DataError(f"{list_path}: is empty; expected names of HDF5 files")
        self.list_path = list_path
        self.names = names
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.dtype = np.dtype(dtype)
        self.rank = rank
        self.rank_count = rank_count
        self._offset = 0
        self._file = 0  # place in _file_order
        self._row = 0  # place in _row_order
        self._row_order: np.ndarray = np.arange(0)
        self._file_order = np.arange(len(self.files))
        self._file_order = self._shuffled(self._file_order)
        self._load_file()
        self._row_shapes = [rows.shape[1:] for rows in self._data]

    def shapes(self) -> list[Shape]:
        """(N, ...) of each top."""
        return [(self.batch_size, *shape) for shape in self._row_shapes]

    def load(self) -> tuple[Tensor, ...]:
        """The next batch, a tensor for each dataset."""
        tops = [np.empty(shape, self.dtype) for shape in self.shapes()]
        for item in range(self.batch_size):
            while self._offset % self.rank_count != self.rank:
                self._advance()
            row = self._row_order[self._row]
            for top, rows in zip(tops, self._data, strict=True):
                top[item] = rows[row]
            self._advance()
        return tuple(torch.from_numpy(top) for top in tops)

    def state(self) -> dict[str, Any]:
        """Position, orders and the state of the shuffle's random stream."""
        return {
            "offset": self._offset,
            "file": self._file,
            "row": self._row,
            "file_order": self._file_order.astype("<i8").tobytes(),
            "row_order": self._row_order.astype("<i8").tobytes(),
            "random": process_random().get_state(),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from a ``state``; DataError, with the source as it was, when it is that of other files."""
        before = vars(self).copy()
        random = process_random().get_state()
        try:
            self._file_order = self._saved_order(state["file_order"], len(self.files), "files")
            self._file = self._saved_place(state["file"], self._file_order)
            self._load_file()
            self._row_order = self._saved_order(state["row_order"], len(self._row_order), "rows in its file")
            self._row = self._saved_place(state["row"], self._row_order)
            self._offset = index(state["offset"])
            process_random().set_state(state["random"])
        except (DataError, LookupError, TypeError, ValueError):
            vars(self).update(before)
            process_random().set_state(random)
            raise

    def close(self) -> None:
        """Nothing is held open."""

    def _saved_order(self, saved: bytes, count: int, what: str) -> np.ndarray:
        order, plain = np.frombuffer(saved, "<i8").copy(), np.arange(count)
        if not np.array_equal(np.sort(order) if self.shuffle else order, plain):
            shuffled = "" if self.shuffle else ", in order"
            raise DataError(f"{self.list_path}: has {count} {what}{shuffled}; the saved state has {len(order)}")
        return order

    def _saved_place(self, place: int, order: np.ndarray) -> int:
        if not 0 <= place < len(order):
            raise DataError(f"{self.list_path}: the saved state stood at {place} of {len(order)}")
        return index(place)

    def _advance(self) -> None:
        self._row += 1
        if self._row == len(self._row_order):
            if len(self.files) > 1:
                self._file += 1
                if self._file == len(self.files):
                    self._file = 0
                    self._file_order = self._shuffled(self._file_order)
                self._load_file()
            self._row = 0
            self._row_order = self._shuffled(self._row_order)  # after a change of file for the second time, as in Caffe
        self._offset += 1

    def _load_file(self) -> None:
        path = self.files[self._file_order[self._file]]
        if not os.path.exists(path):
            raise DataError(f"{path}: no such file; named in {self.list_path}{seen_from(path)}")
        with reading(path, "HDF5", place=f"named in {self.list_path}"), h5py.File(path, "r") as file:
            self._data = [self._read(file, path, name) for name in self.names]
        counts = [len(rows) for rows in self._data]
        if len(set(counts)) > 1 or not counts[0]:
            found = ", ".join(f"{name} {count}" for name, count in zip(self.names, counts, strict=True))
            raise DataError(f"{path}: rows: {found}; expected as many in each dataset, and at least one")
        shapes = [rows.shape[1:] for rows in self._data]
        if getattr(self, "_row_shapes", shapes) != shapes:
            raise DataError(f"{path}: rows of shape {shapes}; the first file has {self._row_shapes}")
        self._row_order = self._shuffled(np.arange(counts[0]))

    def _read(self, file: h5py.File, path: str, name: str) -> np.ndarray:
        dataset = file.get(name)
        if not isinstance(dataset, h5py.Dataset):
            raise DataError(f"{path}: no dataset {name!r} (a top's name); it has {', '.join(file) or 'none'}")
        if dataset.dtype.kind not in "fiu" or dataset.ndim < 1:
            raise DataError(f"{path}: dataset {name!r} is {dataset.dtype} {dataset.shape}; expected rows of numbers")
        check_held(dataset, path, f"{path}: dataset {name!r}", DataError)
        result: np.ndarray = dataset[()].astype(self.dtype, copy=False)
        return result

    def _shuffled(self, order: np.ndarray) -> np.ndarray:
        if not self.shuffle:
            return order
        items = order.tolist()
        process_random().shuffle(items)
        return np.array(items)
