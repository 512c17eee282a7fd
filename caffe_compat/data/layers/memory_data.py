"""MemoryData: batches from arrays that the program hands over."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from caffe_compat.data.batch import MEMORY_CURES, BatchMaker
from caffe_compat.data.source_layer import make_transformer
from caffe_compat.errors import DataError
from caffe_compat.layers.base import Layer, Shape
from caffe_compat.layers.registry import register


@register("MemoryData")
class MemoryData(Layer):
    """Tops: data (N, C, H, W), label (N); ``reset`` or ``add_images`` before the first batch."""

    param_fields = ("memory_data_param", "transform_param")
    fork_fields = ("transform_param.random_seed",)
    is_source = True
    has_backward = False
    bottom_count = (0, 0)
    top_count = (2, 2)

    def setup(self, *bottom_shapes: Shape) -> None:
        """Check the sizes; one draw of the random stream where the transformer is random."""
        param = self.param.memory_data_param
        self.batch_size: int = param.batch_size
        self._image_shape = (param.channels, param.height, param.width)
        if min(self.batch_size, *self._image_shape) < 1:
            self.fail(
                f"memory_data_param has batch_size {param.batch_size}, channels {param.channels}, height "
                f"{param.height}, width {param.width}; expected all of them, at least 1"
            )
        self._maker = BatchMaker(make_transformer(self), cures=MEMORY_CURES)
        self._maker.transformer.start_random()
        self._data: Tensor | None = None
        self._labels: Tensor | None = None
        self._position = 0
        self._unread = False

    def infer_shapes(self, *bottom_shapes: Shape) -> list[Shape]:
        """(N, C, H, W) and (N)."""
        return [(self.batch_size, *self._image_shape), (self.batch_size,)]

    def shapes_without_data(self) -> list[Shape]:
        """By its own fields."""
        param = self.param.memory_data_param
        return [(param.batch_size, param.channels, param.height, param.width), (param.batch_size,)]

    def reset(self, data: Any, labels: Any) -> None:
        """Hand over (M, C, H, W) data and M labels, M a multiple of the batch size; read round and
        round.  NetError for other sizes."""
        data = torch.as_tensor(data, dtype=self.context.dtype)
        labels = torch.as_tensor(labels, dtype=self.context.dtype).reshape(-1)
        if tuple(data.shape[1:]) != self._image_shape or len(labels) != len(data):
            self.fail(
                f"data is {tuple(data.shape)} with {len(labels)} labels; expected (M, "
                f"{', '.join(map(str, self._image_shape))}) and M labels"
            )
        if not len(data) or len(data) % self.batch_size:
            self.fail(f"{len(data)} images; expected a multiple of batch_size {self.batch_size}")
        if self.param.HasField("transform_param"):
            self.warn("transform_param has no effect on arrays handed over with reset")
        self._take(data, labels)

    def add_images(self, images: Sequence[np.ndarray], labels: Sequence[int]) -> None:
        """Hand over uint8 images (H, W, C) or (H, W), to be transformed; NetError while those added
        before are not all read, and for other sizes."""
        self._refuse_unread("add images")
        if not images or len(images) % self.batch_size or len(images) != len(labels):
            self.fail(
                f"{len(images)} images and {len(labels)} labels; expected as many, a multiple of batch_size "
                f"{self.batch_size}"
            )
        planes = [np.atleast_3d(np.asarray(image)).transpose(2, 0, 1) for image in images]
        batch, problems = self._maker.open_images(planes)
        if problems:
            index, problem = min(problems.items())
            self.fail(f"image {index}: {problem}")
        values = self._maker.transform(batch)
        if values.shape[1:] != self._image_shape:
            self.fail(f"images give {values.shape[1:]} (C, H, W); memory_data_param says {self._image_shape}")
        self._take(torch.from_numpy(values).to(self.context.dtype), torch.tensor(labels, dtype=self.context.dtype))
        self._unread = True

    def set_batch_size(self, batch_size: int) -> None:
        """Change the batch size; NetError while added images are not all read."""
        self._refuse_unread("change batch_size")
        if batch_size < 1:
            self.fail(f"batch_size is {batch_size}; expected at least 1")
        self.batch_size = batch_size

    def next_batch(self) -> tuple[Tensor, ...]:
        """The next N images and labels; NetError before any were handed over."""
        if self._data is None or self._labels is None:
            self.fail("has no data yet; call reset (pycaffe: net.set_input_arrays) first")
        if len(self._data) % self.batch_size:
            self.fail(f"{len(self._data)} images; expected a multiple of batch_size {self.batch_size}")
        part = slice(self._position, self._position + self.batch_size)
        self._position = part.stop % len(self._data)
        self._unread &= self._position > 0
        return self._data[part], self._labels[part]

    def forward(self) -> tuple[Tensor, ...]:
        """The same as ``next_batch``."""
        return self.next_batch()

    def source_identity(self) -> dict[str, str]:
        """With how many images were handed over; which ones they are is the program's."""
        count = 0 if self._data is None else len(self._data)
        return {**super().source_identity(), "content": f"{count} images"}

    def source_state(self) -> dict[str, Any]:
        """Position and random state; the data themselves are the program's."""
        return {"position": self._position, "random": self._maker.transformer.get_state()}

    def load_source_state(self, state: dict[str, Any]) -> None:
        """Continue from a ``source_state``; hand over the same data first, or DataError."""
        position, count = state["position"], 0 if self._data is None else len(self._data)
        if position and not (0 < position < count and position % self.batch_size == 0):
            raise DataError(
                f"{self.where()}: has {count} images in batches of {self.batch_size}; the saved state stood at "
                f"{position}"
            )
        self._position = position
        self._maker.transformer.set_state(state["random"])

    def close(self) -> None:
        """End the threads."""
        self._maker.close()

    def _take(self, data: Tensor, labels: Tensor) -> None:
        self._data, self._labels, self._position = data, labels, 0

    def _refuse_unread(self, what: str) -> None:
        if self._unread:
            self.fail(f"cannot {what} before all images added so far are read")
