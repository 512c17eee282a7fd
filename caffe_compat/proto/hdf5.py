"""Caffe's HDF5 files: weights (``/data/<layer>/<index>``) and solver states.

Caffe itself cannot save a net whose layer names contain "/" (GoogLeNet): HDF5 takes it as a
folder that does not exist.  We make the folders, and read such files back.
"""

import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import h5py
import numpy as np

from caffe_compat.atomic_file import atomic_path
from caffe_compat.errors import CaffeCompatError, ProtoError, reading, refusal, seen_from
from caffe_compat.proto.blob import MAX_AXES, check_dtype
from caffe_compat.proto.caffemodel import LayerWeights
from caffe_compat.proto.solverstate import SolverSnapshot
from caffe_compat.proto.source import FilePath

MAX_BLOBS_PER_LAYER = 1000  # far above any layer type; guards against an index like 999999999
MAX_VALUES = 2**31 - 1  # of a blob, as in Caffe
_COMPRESSION_LIMIT = 1100  # deflate's best ratio is about 1032


def read_hdf5_weights(path: FilePath) -> list[LayerWeights]:
    """The layers of a ``.caffemodel.h5``.  A blob that the file leaves out is None (Caffe does so
    for parameters shared from another layer).  float32 or float64 copies; integers become float32.

    Types are not stored: ``type`` is "".  Raises ProtoError for a file that is no Caffe HDF5 file.
    """
    with _open_to_read(path) as file:
        return _read_layers(_group(file, "data", path), "", path)


def write_hdf5_weights(
    path: FilePath,
    blobs: Mapping[str, Sequence[np.ndarray | None]],
    diffs: Mapping[str, Sequence[np.ndarray | None]] | None = None,
) -> None:
    """Write arrays by layer name, atomically; None leaves one out (a shared parameter).

    ``diffs`` go to ``/diff``.  Warns for names with "/", which Caffe's own reader passes over.
    """
    slashed = [name for name in blobs if "/" in name]
    if slashed:
        warnings.warn(
            f'{os.fspath(path)}: Caffe itself cannot read layers with "/" in their name from HDF5 '
            f'("{slashed[0]}"); caffe_compat can. Save as .caffemodel to use the file in Caffe',
            stacklevel=2,
        )
    with _open_to_write(path) as file:
        _write_group(file, "data", blobs, path)
        if diffs is not None:
            _write_group(file, "diff", diffs, path)


def read_hdf5_solverstate(path: FilePath) -> SolverSnapshot:
    """The state in a ``.solverstate.h5``.  Raises ProtoError."""
    with _open_to_read(path) as file:
        history = _group(file, "history", path)
        snapshot = SolverSnapshot(
            iter=_read_int(file, "iter", path), current_step=_read_int(file, "current_step", path)
        )
        if "learned_net" in file:
            value = file["learned_net"][()]
            snapshot.learned_net = os.fsdecode(bytes(value).split(b"\0")[0] if isinstance(value, bytes) else value)
        for i in range(len(history)):
            if str(i) not in history:
                raise ProtoError(f"{os.fspath(path)}: /history has {len(history)} entries but no {i}")
            snapshot.history.append(_read_dataset(history[str(i)], path))
        return snapshot


def write_hdf5_solverstate(path: FilePath, snapshot: SolverSnapshot) -> None:
    """Write a solver's state as Caffe does, atomically."""
    with _open_to_write(path) as file:
        file.create_dataset("iter", data=np.array([snapshot.iter], np.int32))
        if snapshot.learned_net is not None:
            _write_string(file, "learned_net", os.fsencode(snapshot.learned_net))
        file.create_dataset("current_step", data=np.array([snapshot.current_step], np.int32))
        history = file.create_group("history")
        for i, array in enumerate(snapshot.history):
            _write_array(history, i, array, f"{os.fspath(path)}: history {i}")


# -- reading -----------------------------------------------------------------------------------


@contextmanager
def _open_to_read(path: FilePath) -> Iterator[h5py.File]:
    name = os.fspath(path)
    if not os.path.isfile(path):
        raise ProtoError(f"{name}: cannot be read: there is no such file{seen_from(name)}")
    with reading(path, "an HDF5 file of Caffe", ProtoError), h5py.File(path, "r") as file:
        yield file


def _group(file: h5py.File, name: str, path: FilePath) -> h5py.Group:
    group = file.get(name)
    if not isinstance(group, h5py.Group):
        raise ProtoError(f"{os.fspath(path)}: has no group /{name}; expected a file written by Caffe or caffe_compat")
    return group


def _read_layers(group: h5py.Group, prefix: str, path: FilePath) -> list[LayerWeights]:
    """One entry per group that is a layer: it holds datasets, or nothing at all.

    A group below a group is a layer with "/" in its name.
    """
    layers: list[LayerWeights] = []
    for name in group:
        place = f'{os.fspath(path)}: layer "{prefix}{name}"'
        if not isinstance(group.get(name, getlink=True), h5py.HardLink) or prefix.count("/") > MAX_AXES:
            raise ProtoError(f"{place}: is a link, or nested too deep; expected a group of datasets")
        child = group[name]
        if not isinstance(child, h5py.Group):
            if prefix:
                continue  # a blob of the layer above
            raise ProtoError(f"{place}: is not a group of numbered datasets")
        datasets = {key: item for key, item in child.items() if isinstance(item, h5py.Dataset)}
        if datasets or len(child) == 0:
            layers.append(_read_layer(prefix + name, datasets, path))
        if len(datasets) < len(child):
            layers += _read_layers(child, f"{prefix}{name}/", path)
    return layers


def _read_layer(name: str, datasets: Mapping[str, h5py.Dataset], path: FilePath) -> LayerWeights:
    place = f'{os.fspath(path)}: layer "{name}"'
    for key in datasets:
        if not key.isdecimal() or key != str(int(key)) or int(key) >= MAX_BLOBS_PER_LAYER:
            raise ProtoError(f'{place}: dataset "{key}" is no blob number; expected 0, 1, ...')
    layer = LayerWeights(name, "")
    for i in range(max((int(key) + 1 for key in datasets), default=0)):
        dataset = datasets.get(str(i))
        layer.blobs.append(None if dataset is None else _read_dataset(dataset, path))
        layer.legacy.append(False)
        layer.diffs.append(None)
    return layer


def _read_dataset(dataset: Any, path: FilePath) -> np.ndarray:
    place = f"{os.fspath(path)}: dataset {getattr(dataset, 'name', '?')}"
    if not isinstance(dataset, h5py.Dataset) or dataset.dtype.kind not in "fiu":
        raise ProtoError(f"{place}: expected an array of numbers")
    if dataset.ndim > MAX_AXES:
        raise ProtoError(f"{place}: has {dataset.ndim} axes; Caffe takes {MAX_AXES}")
    check_held(dataset, path, place, ProtoError)
    is_double = dataset.dtype.kind == "f" and dataset.dtype.itemsize >= 8
    return np.asarray(dataset[()], np.float64 if is_double else np.float32)


def check_held(dataset: h5py.Dataset, path: FilePath, place: str, error: type[CaffeCompatError]) -> None:
    """Raise ``error`` where ``path`` does not itself hold a dataset's values: reading would make up, or fetch, them."""
    if dataset.is_virtual or dataset.external or dataset.file.filename != os.fspath(path):
        raise error(f"{place}: its values are in another file; copy them into this one")
    if dataset.nbytes > dataset.id.get_storage_size() * _COMPRESSION_LIMIT:
        raise error(f"{place}: shape {dataset.shape} takes {dataset.nbytes} bytes; the file does not hold them")
    if dataset.size > MAX_VALUES:
        raise error(f"{place}: shape {dataset.shape} has {dataset.size} values; Caffe takes {MAX_VALUES} (INT_MAX)")


def _read_int(file: h5py.File, name: str, path: FilePath) -> int:
    dataset = file.get(name)
    if not isinstance(dataset, h5py.Dataset) or dataset.size != 1 or dataset.dtype.kind not in "iu":
        raise ProtoError(f"{os.fspath(path)}: has no whole number /{name}; expected a solver state")
    return int(dataset[()].reshape(()))


# -- writing -----------------------------------------------------------------------------------


@contextmanager
def _open_to_write(path: FilePath) -> Iterator[h5py.File]:
    try:
        with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
            yield file
    except CaffeCompatError:
        raise
    except (OSError, RuntimeError) as error:
        raise ProtoError(f"{os.fspath(path)}: cannot be written: {why_not_written(error)}") from None


def why_not_written(error: OSError | RuntimeError) -> str:
    """What the system says, which HDF5's library hides in a text of its own."""
    said = re.search(r"error message = '([^']*)'", str(error))
    if said:
        return said[1]
    return refusal(error) if isinstance(error, OSError) and error.strerror else " ".join(str(error).split())


def _write_group(
    file: h5py.File, group_name: str, arrays: Mapping[str, Sequence[np.ndarray | None]], path: FilePath
) -> None:
    root = file.create_group(group_name)
    for layer_name, blobs in arrays.items():
        place = f'{os.fspath(path)}: layer "{layer_name}"'
        if {"", "."} & set(layer_name.split("/")):
            raise ProtoError(f"{place}: HDF5 cannot hold this name; rename the layer, or save as .caffemodel")
        try:
            layer = root.require_group(layer_name)
        except (TypeError, ValueError):
            raise ProtoError(f"{place}: its name collides with a blob of another layer; save as .caffemodel") from None
        for i, array in enumerate(blobs):
            if array is not None:
                _write_array(layer, i, array, f"{place}: blob {i}")


def _write_array(group: h5py.Group, index: int, array: np.ndarray, place: str) -> None:
    check_dtype(array, place)
    group.create_dataset(str(index), data=array)


def _write_string(file: h5py.File, name: str, value: bytes) -> None:
    # Caffe reads the string's size and expects the terminating zero within it.
    kind = h5py.h5t.C_S1.copy()
    kind.set_size(len(value) + 1)
    kind.set_strpad(h5py.h5t.STR_NULLTERM)
    space = h5py.h5s.create(h5py.h5s.SCALAR)
    dataset = h5py.h5d.create(file.id, name.encode(), kind, space)
    dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, np.array(value, f"S{len(value) + 1}"), mtype=kind)
