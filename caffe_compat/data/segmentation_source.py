"""Batches of images and the labels of their pixels from files: the work behind DenseImageData and ImageSegData."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from caffe_compat.data.bad_records import BadRecords
from caffe_compat.data.list_order import ListOrder
from caffe_compat.data.pair_list import PairList
from caffe_compat.data.segmentation import Pair, PairTransform
from caffe_compat.data.thread_map import ThreadMap
from caffe_compat.errors import DataError


class SegmentationSource:
    """The pairs of a list, in order or in a new random order for each epoch.

    Files are read in threads, then the random numbers are drawn in order, then the pixels are transformed in threads.
    """

    def __init__(
        self,
        pairs: PairList,
        transform: PairTransform,
        batch_size: int,
        *,
        root: str = "",
        shuffle_seed: int | None = None,
        skip: int = 0,
        skip_bad_records: int = 0,
    ) -> None:
        """``root``: put before each name; ``skip``: where the first epoch starts."""
        self.pairs, self._transform, self._root, self.batch_size = pairs, transform, root, batch_size
        self._order = ListOrder(pairs.path, len(pairs), shuffle_seed, skip)
        self._bad_records = BadRecords(skip_bad_records)
        self._map = ThreadMap()

    def peek_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the first image, transformed; DataError when it is unusable."""
        opened = self._open(self.pairs[self._order.peek()])
        if isinstance(opened, DataError):
            raise opened
        return (opened.image.shape[2], *self._transform.output_size(*opened.label.shape))

    def load(self) -> tuple[Tensor, Tensor, Tensor]:
        """The next batch, float32: data (N, C, H, W), labels (N, 1, H, W), and heights and widths (N, 1, 1, 2) of what
        of each image is in it."""
        opened = self._read()
        windows = [self._transform.draw(pair) for pair in opened]
        made = self._map(lambda given: self._transform.apply(*given), list(zip(opened, windows, strict=True)))
        shapes = {data.shape for data, _ in made}
        if len(shapes) > 1:
            raise DataError(
                f"{self.pairs.path}: images of a batch come out as {sorted(shapes)} (C, H, W); expected one size: set "
                "a crop, or new_height and new_width"
            )
        _, height, width = made[0][0].shape
        sizes = [[min(height, pair.label.shape[0]), min(width, pair.label.shape[1])] for pair in opened]
        data, labels = (torch.from_numpy(np.stack(part)) for part in zip(*made, strict=True))
        return data, labels, torch.tensor(sizes, dtype=torch.float32).view(-1, 1, 1, 2)

    def state(self) -> dict[str, Any]:
        """Position and random state after the batches loaded so far."""
        random = self._transform.plain.get_state()
        return {**self._order.state(), "random": random, "bad_records": self._bad_records.count}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from a ``state``; DataError when it is that of another list."""
        self._order.set_state(state)
        self._transform.plain.set_state(state["random"])
        self._bad_records.count = state["bad_records"]

    def close(self) -> None:
        """End the threads."""
        self._map.close()

    def _read(self) -> list[Pair]:
        opened: list[Pair] = []
        while len(opened) < self.batch_size:
            new = [self.pairs[self._order.next()] for _ in range(self.batch_size - len(opened))]
            for entry, result in zip(new, self._map(self._open, new), strict=True):
                if isinstance(result, DataError):
                    self._bad_records.pass_over(f"{self.pairs.path}: {entry[0]}", result)
                else:
                    opened.append(result)
        return opened

    def _open(self, entry: tuple[str, str]) -> Pair | DataError:
        try:
            pair = self._transform.read(self._root, *entry)
            self._transform.output_size(*pair.label.shape)
        except DataError as error:
            return error
        return pair
