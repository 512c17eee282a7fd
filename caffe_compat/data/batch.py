"""Many records or images become one batch: parsed and transformed by the extension in threads, or by its twin.

The same results, bit for bit, as ``Transformer`` on each image in turn.
"""

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from caffe_compat.data.buffer_pool import BufferPool
from caffe_compat.data.datum import Buffer, size_error, sizes_fit
from caffe_compat.data.image_batch import BAD, BYTES, ENCODED, FLOATS, PlainImageBatch, image_batch_type
from caffe_compat.data.thread_map import ThreadMap
from caffe_compat.data.transformer import Transformer
from caffe_compat.errors import DataError


@dataclass(frozen=True)
class Cures:
    """What to do where the images of a batch differ: in their sizes, or in how many channels they have."""

    sizes: str
    channels: str  # of raw records
    channels_of_files: str  # of records that are image files


DATABASE_CURES = Cures(
    sizes="convert with resize_height and resize_width, or set crop_size",
    channels="convert the images again, all with --gray or all without it",
    channels_of_files="set force_color or force_gray in transform_param",
)
MEAN_CURES = Cures(
    sizes="a mean needs one size: convert again with resize_height and resize_width",
    channels="a mean needs one number of channels: convert the images again, all with --gray or all without it",
    channels_of_files="a mean needs one number of channels: convert the images again, without --encoded",
)
IMAGE_FILE_CURES = Cures(
    sizes="set new_height and new_width, or crop_size",
    channels="set is_color",
    channels_of_files="set is_color",
)
MEMORY_CURES = Cures(
    sizes="give images of one size, or set crop_size",
    channels="give images with as many channels",
    channels_of_files="give images with as many channels",
)


class BatchMaker:
    """Turns records or image files into batches with one ``Transformer``.

    ``open_records`` and ``open_images`` give an ``ImageBatch`` (see image_batch.py) and the problems found:
    {index: DataError}.  A batch with problems cannot be transformed; leave those images out and open the rest again.
    ``plain``: without the extension, the same bits, for few images: loading it, and PyTorch with it, takes two seconds.
    """

    def __init__(
        self,
        transformer: Transformer,
        threads: int | None = None,
        *,
        cures: Cures = DATABASE_CURES,
        plain: bool = False,
    ) -> None:
        self.transformer = transformer
        self.cures = cures
        self._plain = plain
        self.map = ThreadMap(threads)
        self._buffers = BufferPool()

    def open_records(self, values: Sequence[Buffer]) -> tuple[PlainImageBatch, dict[int, DataError]]:
        """Parse serialized Datums and decode the encoded ones."""
        batch = self._batch_type()(list(values), self.map.threads)
        headers = batch.headers()
        kinds = headers[:, 0]
        problems = {i: DataError(batch.error(i)) for i in np.flatnonzero(kinds == BAD).tolist()}
        problems |= _wrong_sizes(headers, batch.value_counts())
        encoded = np.flatnonzero(kinds == ENCODED).tolist()
        if encoded:
            images = self.map(lambda i: _try(self.transformer.decode, batch.encoded(i)), encoded)
            problems |= self._put(batch, dict(zip(encoded, images, strict=True)))
        return batch, problems | self._misfits(batch, problems, set(encoded))

    def open_images(self, images: Sequence[np.ndarray | DataError]) -> tuple[PlainImageBatch, dict[int, DataError]]:
        """Take decoded (C, H, W) uint8 images, any strides; an error in place of one is a problem."""
        batch = self._batch_type()(len(images))
        problems = self._put(batch, dict(enumerate(images)))
        return batch, problems | self._misfits(batch, problems, set())

    def transform(self, batch: PlainImageBatch) -> np.ndarray:
        """Draw a window for each image, in order, and transform: (N, C, H, W) float32.

        The array is used again for a later batch once nobody refers to it, or to a view of it, any more.
        """
        sizes = batch.headers()[:, 1:4]
        out = self._buffers.take((len(sizes), *self.transformer.output_shape(*sizes[0].tolist())), np.float32)
        windows, mean = self.transformer.draw_windows(sizes[:, 1:]), self.transformer.mean_for(int(sizes[0, 0]))
        batch.transform(out, windows, mean, float(self.transformer.scale), self.map.threads)
        return out

    def copy_bytes(self, batch: PlainImageBatch, out: np.ndarray | None = None) -> np.ndarray:
        """The images as they are: (N, C, H, W) uint8, in ``out`` if given; all of one size."""
        sizes = batch.headers()[:, 1:4]
        if out is None:
            out = self._buffers.take((len(sizes), *sizes[0].tolist()), np.uint8)
        batch.copy_bytes(out, self.map.threads)
        return out

    def close(self) -> None:
        """End the threads."""
        self.map.close()

    def _batch_type(self) -> type[PlainImageBatch]:
        return PlainImageBatch if self._plain else image_batch_type()

    def _put(self, batch: PlainImageBatch, images: dict[int, Any]) -> dict[int, DataError]:
        problems = {}
        for index, image in images.items():
            if isinstance(image, DataError):
                problems[index] = image
            else:
                batch.set_image(index, image)
        return problems

    def _misfits(
        self, batch: PlainImageBatch, problems: dict[int, DataError], files: Container[int]
    ) -> dict[int, DataError]:
        """Images that the transformer refuses, or that come out unlike the first good one."""
        sizes = batch.headers()[:, 1:4]
        if not problems and len(sizes) and (sizes == sizes[0]).all():
            return self._check_size(sizes[0], range(len(sizes)))
        misfits: dict[int, DataError] = {}
        first: tuple[int, int, int] | None = None
        for index, size in enumerate(sizes.tolist()):
            if index in problems:
                continue
            misfits |= self._check_size(size, [index])
            if index in misfits:
                continue
            shape = self.transformer.output_shape(*size)
            first = first or shape
            if shape != first:
                channels = self.cures.channels_of_files if index in files else self.cures.channels
                misfits[index] = DataError(
                    f"gives {_times(shape)} (channels x height x width), the first of its batch {_times(first)}; "
                    f"{self.cures.sizes if shape[0] == first[0] else channels}"
                )
        return misfits

    def _check_size(self, size: Iterable[int], indices: Iterable[int]) -> dict[int, DataError]:
        try:
            self.transformer.output_shape(*map(int, size))
        except DataError as error:
            return dict.fromkeys(indices, error)
        return {}


def _wrong_sizes(headers: np.ndarray, values: np.ndarray) -> dict[int, DataError]:
    """The raw records whose values are not those of their sizes."""
    kinds, sizes = headers[:, 0], headers[:, 1:4].astype(np.int64)
    wrong = ((kinds == BYTES) | (kinds == FLOATS)) & ~sizes_fit(sizes[:, 0], sizes[:, 1], sizes[:, 2], values)
    return {i: size_error(sizes[i].tolist(), int(values[i])) for i in np.flatnonzero(wrong).tolist()}


def _try(function: Any, *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except DataError as error:
        return error


def _times(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
