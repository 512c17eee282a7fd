"""Files of mean images: .binaryproto, as Caffe's, and .npy."""

import io
import os
from pathlib import Path

import numpy as np

from caffe_compat.atomic_file import write_bytes
from caffe_compat.errors import DataError, seen_from
from caffe_compat.proto import read_blob, write_blob


def read_mean(path: str | os.PathLike[str]) -> np.ndarray:
    """Mean image (C, H, W) float32 from a ``.binaryproto`` (BlobProto) or ``.npy`` file.

    Raises DataError when the file is missing, damaged, or not one image.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such mean file; make it with compute_image_mean{seen_from(path)}")
    if path.suffix == ".npy":
        try:
            mean = np.load(path)
        except (ValueError, OSError) as error:
            raise DataError(f"{path}: cannot be read as a NumPy array: {error}") from None
    else:
        mean = read_blob(path)
    while mean.ndim > 3 and mean.shape[0] == 1:
        mean = mean[0]
    if mean.ndim != 3:
        raise DataError(f"{path}: mean has shape {mean.shape}; expected one image (channels, height, width)")
    return np.ascontiguousarray(mean, np.float32)


def write_mean(path: str | os.PathLike[str], mean: np.ndarray) -> None:
    """Write a (C, H, W) mean as ``.npy`` or else as a BlobProto, in the 4-axis form of Caffe's tool."""
    if Path(path).suffix == ".npy":
        buffer = io.BytesIO()
        np.save(buffer, np.asarray(mean, np.float32))
        write_bytes(path, buffer.getvalue())
        return
    write_blob(path, np.asarray(mean, np.float32)[None])
