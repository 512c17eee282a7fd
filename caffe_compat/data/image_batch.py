"""Serialized Datums or decoded images on their way into one array: the twin of the extension's ``ImageBatch``."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from caffe_compat import extension
from caffe_compat.data.datum import Buffer, Datum, parse_datum, sizes_fit
from caffe_compat.data.transformer import CropWindow, transform_image
from caffe_compat.errors import DataError

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]
Bytes = npt.NDArray[np.uint8]

# The kinds of places in a batch, in ``headers()``; the extension has the same numbers.
EMPTY, BYTES, FLOATS, ENCODED, BAD = range(5)


def image_batch_type() -> "type[PlainImageBatch]":
    """``ImageBatch`` of the extension, or its twin where there is none: the same methods and the same bits."""
    module = extension.load()
    if module is None:
        return PlainImageBatch
    compiled: type[PlainImageBatch] = module.ImageBatch
    return compiled


class PlainImageBatch:
    """Images (C, H, W), one after the other; the extension's works in threads, this one without."""

    def __init__(self, records: Sequence[Buffer] | int, threads: int = 1) -> None:
        """Parse serialized Datums; or make room for so many images, to be filled with ``set_image``."""
        count = records if isinstance(records, int) else len(records)
        self._kinds = [EMPTY] * count
        self._datums = [Datum() for _ in range(count)]
        self._images: list[npt.NDArray[Any] | None] = [None] * count
        self._errors = [""] * count
        if not isinstance(records, int):
            for index, record in enumerate(records):
                self._parse(index, record)

    def __len__(self) -> int:
        return len(self._kinds)

    def headers(self) -> Ints:
        """int32 [count, 5]: kind, channels, height, width, label."""
        rows = [
            (kind, *(self._sizes(index) if image is None else image.shape), self._datums[index].label)
            for index, (kind, image) in enumerate(zip(self._kinds, self._images, strict=True))
        ]
        return np.array(rows, np.int32).reshape(-1, 5)

    def value_counts(self) -> npt.NDArray[np.int64]:
        """int64 [count]: how many values each raw record holds."""
        is_raw = [kind in (BYTES, FLOATS) for kind in self._kinds]
        counts = [datum.values().size if raw else 0 for raw, datum in zip(is_raw, self._datums, strict=True)]
        return np.array(counts, np.int64)

    def error(self, index: int) -> str:
        """Why the record could not be read."""
        return self._errors[index]

    def encoded(self, index: int) -> memoryview:
        """The bytes of an image file."""
        return memoryview(self._datums[index].data)

    def set_image(self, index: int, image: Bytes) -> None:
        """Put a decoded image, uint8 (C, H, W) with any strides, in this place."""
        if image.ndim != 3:
            raise ValueError("set_image: expected (channels, height, width)")
        self._kinds[index], self._images[index] = BYTES, image

    def transform(self, out: Floats, windows: Ints, mean: Floats | None, scale: float, threads: int = 1) -> None:
        """Into ``out`` (N, C, H, W): ``windows`` (N, 3) holds top, left, mirror of each; ``mean`` (C) or (C, H, W)."""
        size = out.shape[2:]
        for index, (top, left, mirror) in enumerate(windows.tolist()):
            image = self._image(index)
            if min(top, left) < 0 or top + size[0] > image.shape[1] or left + size[1] > image.shape[2]:
                raise ValueError(f"transform: window {index} leaves its image, or the channels differ")
            window = CropWindow(top, left, mirror != 0)
            out[index] = transform_image(image, window, size=size, mean=mean, scale=np.float32(scale))

    def copy_bytes(self, out: Bytes, threads: int = 1) -> None:
        """Into ``out`` (N, C, H, W) uint8, the size of every image."""
        for index in range(len(self)):
            out[index] = self._image(index)

    def add_to(self, total: Floats, threads: int = 1) -> None:
        """Add every image to ``total`` (C, H, W), in order."""
        for index in range(len(self)):
            total += self._image(index).astype(np.float32)

    def _parse(self, index: int, record: Buffer) -> None:
        try:
            datum = parse_datum(record)
        except DataError as error:
            self._kinds[index], self._errors[index] = BAD, str(error)
            return
        self._datums[index] = datum
        self._kinds[index] = ENCODED if datum.encoded else BYTES if len(datum.data) else FLOATS
        if not datum.encoded and sizes_fit(*self._sizes(index), datum.values().size):
            self._images[index] = datum.array()

    def _sizes(self, index: int) -> tuple[int, int, int]:
        datum = self._datums[index]
        return datum.channels, datum.height, datum.width

    def _image(self, index: int) -> npt.NDArray[Any]:
        image = self._images[index]
        if image is None:
            raise ValueError(f"place {index} has no image")
        return image
