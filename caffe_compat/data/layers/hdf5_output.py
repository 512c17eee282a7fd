"""HDF5Output: writes its two bottoms into an HDF5 file, as datasets ``data`` and ``label``."""

import os
import shutil
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor

from caffe_compat.errors import DataError, seen_from
from caffe_compat.layers.base import Layer, Shape
from caffe_compat.layers.registry import register
from caffe_compat.proto.hdf5 import why_not_written

_SLACK_BYTES = 16 << 10  # HDF5's own, beside the rows
_NAMES = ("data", "label")
_AXES = 4  # Caffe writes both as num x channels x height x width


@register("HDF5Output")
class HDF5Output(Layer):
    """Bottoms: data (N, ...), label (N, ...); no tops.

    The file is made anew in the first forward pass, so that a net that is only looked at destroys nothing; each pass
    appends its N rows (Caffe makes the file when the layer is set up, and ends at the second pass).
    """

    param_fields = ("hdf5_output_param",)
    bottom_count = (2, 2)
    top_count = (0, 0)
    has_backward = False
    writes_files = True
    graph_obstacle = "writes to a file on the host"

    def setup(self, data_shape: Shape, label_shape: Shape) -> None:
        """DataError where no file can be made."""
        self._path = self.param.hdf5_output_param.file_name
        self._file: h5py.File | None = None
        self._begun = False  # whether the file is ours
        folder = Path(self._path).parent
        if not self.context.shapes_only and not (folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)):
            raise DataError(
                f"{self.where()}: {self._path}: cannot be created; make sure that the folder {folder} exists and is "
                f"writable{seen_from(folder)}"
            )

    def infer_shapes(self, data_shape: Shape, label_shape: Shape) -> list[Shape]:
        """No tops; both bottoms need as many rows, and at most 4 axes."""
        if data_shape[:1] != label_shape[:1] or not data_shape:
            self.fail(f"data is {data_shape} and label {label_shape}; expected the same number of rows")
        if max(len(data_shape), len(label_shape)) > _AXES:
            self.fail(f"data is {data_shape} and label {label_shape}; at most {_AXES} axes can be written")
        return []

    def forward(self, data: Tensor, label: Tensor) -> tuple[Tensor, ...]:
        """Append the rows."""
        # Not as a decorator: that would load torch._dynamo, two seconds for every program.
        torch.compiler.disable(self._write)(data, label)
        return ()

    def _write(self, data: Tensor, label: Tensor) -> None:
        if self._file is None:
            self._file = self._open()
        # HDF5's library does not survive a full disk: a later flush or close ends the process.
        free_bytes = shutil.disk_usage(Path(self._path).parent).free
        if free_bytes < data.numel() * data.element_size() + label.numel() * label.element_size() + _SLACK_BYTES:
            raise DataError(f"{self.where()}: {self._path}: cannot be written: no space left on the disk")
        try:
            for name, bottom in zip(_NAMES, (data, label), strict=True):
                rows = bottom.detach().cpu().numpy()
                self._append(self._file, name, rows.reshape(rows.shape + (1,) * (_AXES - rows.ndim)))
            self._file.flush()
        except (OSError, RuntimeError) as error:
            raise DataError(f"{self.where()}: {self._path}: cannot be written: {why_not_written(error)}") from None

    def _open(self) -> h5py.File:
        try:
            file = h5py.File(self._path, "a" if self._begun else "w")
        except OSError as error:
            raise DataError(f"{self.where()}: {self._path}: cannot be created: {why_not_written(error)}") from None
        self._begun = True
        return file

    def close(self) -> None:
        """Close the file; a later pass goes on with it."""
        file, self._file = self._file, None
        if file is not None:
            try:
                file.close()
            except (OSError, RuntimeError) as error:  # what was not written before cannot be now, either
                raise DataError(f"{self.where()}: {self._path}: cannot be written: {why_not_written(error)}") from None

    def _append(self, file: h5py.File, name: str, rows: np.ndarray) -> None:
        if name not in file:
            file.create_dataset(name, data=rows, maxshape=(None, *rows.shape[1:]), chunks=rows.shape)
            return
        dataset = file[name]
        if dataset.shape[1:] != rows.shape[1:]:
            self.fail(f"{self._path}: rows of {name} are {dataset.shape[1:]} so far, and now {rows.shape[1:]}")
        dataset.resize(len(dataset) + len(rows), axis=0)
        dataset[-len(rows) :] = rows
