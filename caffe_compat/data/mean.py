"""Files of mean images: .binaryproto, as Caffe's, and .npy."""

import io
import os
from pathlib import Path

import numpy as np

from caffe_compat.atomic_file import write_bytes
from caffe_compat.errors import DataError, reading, seen_from
from caffe_compat.proto import read_blob, write_blob


def read_mean(path: str | os.PathLike[str]) -> np.ndarray:
    """Mean image (C, H, W) float32 from a ``.binaryproto`` (BlobProto) or ``.npy`` file.

    Raises DataError when the file is missing, damaged, or not one image.
    """
    path = Path(path)
    if not os.path.isfile(path):
        raise DataError(f"{path}: no such mean file; make it with compute_image_mean{seen_from(path)}")
    if path.suffix == ".npy":
        with reading(path, "a NumPy array"):
            mean = np.load(path, mmap_mode="r", allow_pickle=False)  # mapped, so that a size that lies takes no memory
        if not isinstance(mean, np.ndarray) or mean.dtype.kind not in "fiub":
            what = f"an array of {mean.dtype}" if isinstance(mean, np.ndarray) else "an .npz archive"
            raise DataError(f"{path}: is {what}; expected one array of numbers (channels, height, width)")
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
