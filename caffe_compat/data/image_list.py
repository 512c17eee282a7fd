"""Lists of image files and labels, and reading one of those files as Caffe does."""

import os
import re
from pathlib import Path

import numpy as np

from caffe_compat.data.datum import decode_image
from caffe_compat.data.identity import digest
from caffe_compat.data.image_size import MAX_VALUES
from caffe_compat.errors import DataError, seen_from

_INT32, _INT32_DIGITS = 2**31, 10
_INTEGER = re.compile(rb"\s*([+-]?\d+)")
_WHOLE = re.compile(rb"\s*[+-]?\d+\s*")


class ImageList:
    """The lines ``name label`` of a file; held as its bytes and two numbers per line."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Raises DataError when the file is missing or empty."""
        self.path = Path(path)
        try:
            self._text = self.path.read_bytes()
        except OSError as error:
            raise DataError(
                f"{self.path}: cannot be read: {error.strerror}; expected lines of `name label`{seen_from(path)}"
            ) from None
        if not self._text:
            raise DataError(f"{self.path}: is empty; expected lines of `name label`")
        if not self._text.endswith(b"\n"):
            self._text += b"\n"
        self._ends = np.flatnonzero(np.frombuffer(self._text, np.uint8) == ord("\n"))

    def __len__(self) -> int:
        return len(self._ends)

    def identity(self) -> str:
        """Count and a digest of the lines, to tell this list from others."""
        return f"{len(self)} images ({digest([self._text])})"

    def line(self, number: int) -> str:
        """Line ``number``, counted from 0."""
        return os.fsdecode(self._bytes(number))

    def __getitem__(self, number: int) -> tuple[str, int]:
        """``(name, label)`` of line ``number``.

        The label is the whole number after the last space, or 0 where there is none, as in Caffe.
        """
        line = self._bytes(number)
        name, space, label = line.rpartition(b" ")
        return os.fsdecode(name if space else line), self._label(number, label)

    def _label(self, number: int, text: bytes) -> int:
        found = _INTEGER.match(text)
        digits = found[1].lstrip(b"+-0") if found else b""
        value = int(digits or b"0") if len(digits) <= _INT32_DIGITS else _INT32
        value = -value if found and found[1].startswith(b"-") else value
        if not -_INT32 <= value < _INT32:
            shown = os.fsdecode(text[:20]) + ("..." if len(text) > 20 else "")
            raise DataError(f"{self.path}:{number + 1}: label is {shown}; expected {-_INT32} to {_INT32 - 1}")
        return value

    def label_problem(self) -> str | None:
        """What is odd about the first label that is no whole number, with its place; None where all are."""
        for number in range(len(self)):
            _, space, label = self._bytes(number).rpartition(b" ")
            if space and _WHOLE.fullmatch(label):
                continue
            came = f'label "{os.fsdecode(label)}" is no whole number' if space else "no label"
            value = self._label(number, label) if space else 0
            return f"{self.path}:{number + 1}: {came}; read as {value}, as in Caffe"
        return None

    def _bytes(self, number: int) -> bytes:
        start = self._ends[number - 1] + 1 if number else 0
        return self._text[start : self._ends[number]]


def read_image(path: str, height: int = 0, width: int = 0, color: bool = True) -> np.ndarray:
    """Image (H, W, C) uint8, BGR, of a file; resized (bilinear) when height and width are above 0.

    Raises DataError when the file cannot be read or decoded.
    """
    return decode_resized(read_file(path), path, height, width, color)


def decode_resized(data: bytes, name: str, height: int = 0, width: int = 0, color: bool = True) -> np.ndarray:
    """``read_image`` from the bytes of the file."""
    image = decode_image(data, color, name)
    if height > 0 and width > 0:
        import cv2

        check_new_size(height, width, image.shape[2], name)
        image = cv2.resize(image, (width, height))
    return image if image.ndim == 3 else image[:, :, None]


def check_new_size(height: int, width: int, channels: int, place: str) -> None:
    """DataError when an image resized to this would have more values than a blob."""
    if height * width * channels > MAX_VALUES:
        raise DataError(
            f"{place}: cannot be resized to {height}x{width} (height x width); expected at most {MAX_VALUES} values, "
            "as in Caffe"
        )


def read_file(path: str) -> bytes:
    """The bytes of a file; DataError when it cannot be read."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}{seen_from(path)}") from None
    except ValueError:
        raise DataError(f"{path!r}: cannot be read: a zero byte in the name") from None
