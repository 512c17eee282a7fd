"""Images and labels: Datum records, LMDB, transformer, mean files, loaders and their layers.

Public names are loaded on first use; those that read records work without torch.
"""

from importlib import import_module
from typing import Any

_HOME = {
    "Datum": "datum",
    "LMDBDataset": "dataset",
    "LMDBReader": "lmdb",
    "Loader": "loader",
    "SubsetReader": "index_file",
    "LMDBWriter": "lmdb",
    "Transformer": "transformer",
    "batch_transform": "batch_transform",
    "compute_mean": "mean",
    "convert_images": "convert",
    "encode_datum": "datum",
    "encode_image": "datum",
    "open_database": "database",
    "parse_datum": "datum",
    "read_mean": "mean",
    "write_index_file": "index_file",
    "write_lmdb": "lmdb",
    "write_mean": "mean",
}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"caffe_compat.data.{_HOME[name]}"), name)
    raise AttributeError(f"module 'caffe_compat.data' has no attribute {name!r}")
