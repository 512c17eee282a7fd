"""ImageData: images and labels from files named in a list."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from caffe_compat.data.bad_records import BadRecords
from caffe_compat.data.batch import IMAGE_FILE_CURES, BatchMaker
from caffe_compat.data.image_list import ImageList, read_image
from caffe_compat.data.list_order import ListOrder
from caffe_compat.data.source_layer import SourceLayer, draw_as_thread_starts, image_shape_without_data
from caffe_compat.data.transformer import Transformer
from caffe_compat.errors import DataError
from caffe_compat.layers.base import Shape
from caffe_compat.layers.registry import register
from caffe_compat.proto import caffe_pb2
from caffe_compat.random import generator


@register("ImageData")
class ImageData(SourceLayer):
    """Tops: data (N, C, H, W), label (N)."""

    param_fields = ("image_data_param", "transform_param")
    fork_fields = ("transform_param.random_seed",)
    top_count = (2, 2)

    def setup(self, *bottom_shapes: Shape) -> None:
        """Read the list; take as many draws of the random stream as Caffe does."""
        param = self.param.image_data_param
        if param.batch_size < 1:
            self.fail(f"image_data_param.batch_size is {param.batch_size}; expected at least 1")
        if (param.new_height > 0) != (param.new_width > 0):
            self.fail(
                f"image_data_param has new_height {param.new_height} and new_width {param.new_width}; "
                "set both or neither"
            )
        transformer = self._make_transformer()
        transformer.start_random()
        with self._errors_with_place():
            images = ImageList(param.source)
            problem = images.label_problem()
            if problem is not None:
                self.warn(problem)
            seed = generator().raw() if param.shuffle else None
            skip = generator().raw() % param.rand_skip if param.rand_skip else 0
            if skip >= len(images):
                self.fail(f"image_data_param.rand_skip chose to skip {skip} of {len(images)} images; make it smaller")
            if self.phase == "TRAIN" and self.context.solver_rank > 0 and not (param.shuffle or param.rand_skip):
                self.warn("every process reads the same images in the same order; set shuffle or rand_skip")
            self.source: ImageListSource = ImageListSource(
                images,
                param,
                transformer,
                shuffle_seed=seed,
                skip=skip,
                skip_bad_records=self.context.skip_bad_records,
            )
            self._image_shape = self.source.peek_shape()
        draw_as_thread_starts(transformer)

    def infer_shapes(self, *bottom_shapes: Shape) -> list[Shape]:
        """(N, C, H, W) of the first image transformed, and (N)."""
        batch = self.param.image_data_param.batch_size
        return [(batch, *self._image_shape), (batch,)]

    def shapes_without_data(self) -> list[Shape]:
        """By ``crop_size``, or ``new_height`` and ``new_width``."""
        param = self.param.image_data_param
        image = image_shape_without_data(self, param.new_height, param.new_width, color=param.is_color)
        return [(param.batch_size, *image), (param.batch_size,)]

    def source_identity(self) -> dict[str, str]:
        """With the list, but not the image files."""
        return {**super().source_identity(), "content": self.source.images.identity()}


class ImageListSource:
    """Batches of the list's images, in order or in a new random order for each epoch."""

    def __init__(
        self,
        images: ImageList,
        param: caffe_pb2.ImageDataParameter,
        transformer: Transformer,
        *,
        shuffle_seed: int | None,
        skip: int,
        skip_bad_records: int = 0,
    ) -> None:
        """``param``: an ImageDataParameter; ``skip``: where the first epoch starts."""
        self.images = images
        self.batch_size: int = param.batch_size
        self._root: str = param.root_folder
        self._how = (param.new_height, param.new_width, param.is_color)
        self.transformer = transformer
        self.maker = BatchMaker(transformer, cures=IMAGE_FILE_CURES)
        self.bad_records = BadRecords(skip_bad_records)
        self._order = ListOrder(images.path, len(images), shuffle_seed, skip)

    def peek_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the first image, transformed; DataError when it is unusable."""
        image = self._read(self.images[self._order.peek()][0])
        if isinstance(image, DataError):
            raise image
        return self.transformer.output_shape(*image.shape)

    def load(self) -> tuple[Tensor, Tensor]:
        """The next batch: data (N, C, H, W) and labels (N), float32."""
        entries: list[tuple[str, int]] = []
        images: list[np.ndarray | DataError] = []
        while True:
            new = [self.images[self._order.next()] for _ in range(self.batch_size - len(entries))]
            entries += new
            images += self.maker.map(self._read, [name for name, _ in new])
            batch, problems = self.maker.open_images(images)
            if not problems:
                break
            for index in sorted(problems):
                self.bad_records.pass_over(f"{self.images.path}: {entries[index][0]}", problems[index])
            entries = [e for i, e in enumerate(entries) if i not in problems]
            images = [m for i, m in enumerate(images) if i not in problems]
        labels = np.array([label for _, label in entries], np.float32)
        return torch.from_numpy(self.maker.transform(batch)), torch.from_numpy(labels)

    def state(self) -> dict[str, Any]:
        """Position and random state after the batches loaded so far."""
        random = self.transformer.get_state()
        return {**self._order.state(), "random": random, "bad_records": self.bad_records.count}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from a ``state``; repeats its shuffles.  DataError when it is that of another list."""
        self._order.set_state(state)
        self.transformer.set_state(state["random"])
        self.bad_records.count = state["bad_records"]

    def close(self) -> None:
        """End the threads."""
        self.maker.close()

    def _read(self, name: str) -> np.ndarray | DataError:
        try:
            return read_image(self._root + name, *self._how).transpose(2, 0, 1)
        except DataError as error:
            return error
