"""Many records or images become one batch: parsed and transformed by the extension, in threads.

The same results, bit for bit, as ``Transformer`` on each image in turn.
"""

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from caffe_compat import extension
from caffe_compat.data.thread_map import ThreadMap
from caffe_compat.data.transformer import Transformer
from caffe_compat.errors import DataError

_ENCODED, _BAD = 3, 4  # kinds in ImageBatch.headers()


class BatchMaker:
    """Turns records or image files into batches with one ``Transformer``.

    ``images`` methods give an ``ImageBatch`` and the problems found: {index: DataError}.  A batch
    with problems cannot be transformed; leave those images out and open the rest again.
    """

    BYTES = 1  # the kind, in ImageBatch.headers(), of raw and decoded images

    def __init__(self, transformer: Transformer, threads: int | None = None) -> None:
        self.transformer = transformer
        self.map = ThreadMap(threads)
        self._buffers = BufferPool()

    def open_records(self, values: Sequence[Any]) -> tuple[Any, dict[int, DataError]]:
        """Parse serialized Datums and decode the encoded ones."""
        batch = extension.require("making batches").ImageBatch(list(values), self.map.threads)
        kinds = batch.headers()[:, 0]
        problems = {int(i): DataError(batch.error(i)) for i in np.flatnonzero(kinds == _BAD)}
        encoded = [int(i) for i in np.flatnonzero(kinds == _ENCODED)]
        if encoded:
            images = self.map(lambda i: _try(self.transformer.decode, batch.encoded(i)), encoded)
            problems |= self._put(batch, dict(zip(encoded, images, strict=True)))
        return batch, problems | self._misfits(batch, problems)

    def open_images(self, images: Sequence[np.ndarray | DataError]) -> tuple[Any, dict[int, DataError]]:
        """Take decoded (C, H, W) uint8 images, any strides; an error in place of one is a problem."""
        batch = extension.require("making batches").ImageBatch(len(images))
        problems = self._put(batch, dict(enumerate(images)))
        return batch, problems | self._misfits(batch, problems)

    def transform(self, batch: Any) -> np.ndarray:
        """Draw a window for each image, in order, and transform: (N, C, H, W) float32.

        The array is used again for a later batch once nobody refers to it any more.
        """
        sizes = batch.headers()[:, 1:4]
        out = self._buffers.take((len(sizes), *self.transformer.output_shape(*sizes[0].tolist())), np.float32)
        windows, mean = self.transformer.draw_windows(sizes[:, 1:]), self.transformer.mean_for(int(sizes[0, 0]))
        batch.transform(out, windows, mean, float(self.transformer.scale), self.map.threads)
        return out

    def copy_bytes(self, batch: Any, out: np.ndarray | None = None) -> np.ndarray:
        """The images as they are: (N, C, H, W) uint8, in ``out`` if given; all of one size."""
        sizes = batch.headers()[:, 1:4]
        if out is None:
            out = self._buffers.take((len(sizes), *sizes[0].tolist()), np.uint8)
        batch.copy_bytes(out, self.map.threads)
        return out

    def close(self) -> None:
        """End the threads."""
        self.map.close()

    def _put(self, batch: Any, images: dict[int, Any]) -> dict[int, DataError]:
        problems = {}
        for index, image in images.items():
            if isinstance(image, DataError):
                problems[index] = image
            else:
                batch.set_image(index, image)
        return problems

    def _misfits(self, batch: Any, problems: dict[int, DataError]) -> dict[int, DataError]:
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
                misfits[index] = DataError(
                    f"gives {_times(shape)} (channels x height x width), the first of its batch {_times(first)}; "
                    "convert with resize_height and resize_width, or set crop_size"
                )
        return misfits

    def _check_size(self, size: Any, indices: Any) -> dict[int, DataError]:
        try:
            self.transformer.output_shape(*map(int, size))
        except DataError as error:
            return dict.fromkeys(indices, error)
        return {}


class BufferPool:
    """Large arrays used again and again: new memory costs as much time as filling it.

    An array is free when only the pool refers to it; tensors made of it count as well.
    """

    _KEPT = 16

    def __init__(self) -> None:
        self._arrays: list[np.ndarray] = []

    def take(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """An array of undefined content that nobody else holds."""
        for index in range(len(self._arrays)):
            # One reference is the list's, one the argument's.
            if sys.getrefcount(self._arrays[index]) == 2:
                array = self._arrays[index]
                if array.shape == shape and array.dtype == dtype:
                    return array
        array = np.empty(shape, dtype)
        self._arrays = [a for a in self._arrays if a.shape == shape and a.dtype == dtype][-self._KEPT :]
        self._arrays.append(array)
        return array

    def __getstate__(self) -> dict[str, Any]:
        return {"_arrays": []}


def _try(function: Any, *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except DataError as error:
        return error


def _times(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
