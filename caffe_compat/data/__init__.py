"""Images and labels: Datum records, LMDB, transformer, mean files, loaders and their layers.

Public names are loaded on first use; those that read records work without torch.
"""

from caffe_compat.lazy import lazy

_HOME = {
    "Datum": "data.datum",
    "LMDBDataset": "data.dataset",
    "LMDBReader": "data.lmdb",
    "Loader": "data.loader",
    "SubsetReader": "data.index_file",
    "LMDBWriter": "data.lmdb",
    "Transformer": "data.transformer",
    "batch_transform": "ops.batch_transform",
    "compute_mean": "data.database_mean",
    "convert_images": "data.convert",
    "encode_datum": "data.datum",
    "encode_image": "data.datum",
    "open_database": "data.database",
    "parse_datum": "data.datum",
    "read_mean": "data.mean",
    "write_index_file": "data.index_file",
    "write_lmdb": "data.lmdb",
    "write_mean": "data.mean",
}

__all__ = list(_HOME)

__getattr__, __dir__ = lazy(__name__, _HOME)
