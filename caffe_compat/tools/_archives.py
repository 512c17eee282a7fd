"""What a zip archive says of itself, looked at before memory is taken for it."""

import zipfile
from pathlib import Path

from caffe_compat.errors import CaffeCompatError

_LARGEST_RATIO = 1100  # of what is packed to the file; deflate's best is about 1032
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # all that NumPy and PyTorch write


def check_members(path: Path, archive: zipfile.ZipFile) -> None:
    """CaffeCompatError for a member that ``path`` cannot hold, or that is packed so that it may ask for any memory.

    LZMA takes what its first bytes say, and bzip2 packs gigabytes into kilobytes.
    """
    size = path.stat().st_size
    for info in archive.infolist():
        if info.compress_type not in _METHODS:
            raise CaffeCompatError(
                f"{path}: {info.filename} is packed by method {info.compress_type}; expected stored (0) or deflated (8)"
            )
        if info.compress_size > size or info.file_size > _LARGEST_RATIO * info.compress_size:
            most = max(info.compress_size, info.file_size)
            raise CaffeCompatError(f"{path}: {info.filename} has {most} bytes, more than the file; damaged")
