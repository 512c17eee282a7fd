"""The fast way from a database to batches on a device, for any PyTorch program."""

import math
import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from caffe_compat.data.database import open_database
from caffe_compat.data.database_source import DatabaseSource
from caffe_compat.data.image_batch import BYTES, PlainImageBatch
from caffe_compat.data.image_size import MAX_VALUES
from caffe_compat.data.prefetch import Prefetcher
from caffe_compat.data.transformer import Transformer
from caffe_compat.errors import DataError
from caffe_compat.ops import batch_transform


class Batch(NamedTuple):
    """One batch: ``data`` (N, C, H, W) float32 and ``label`` (N) int64, on the loader's device."""

    data: Tensor
    label: Tensor


class Loader:
    """Batches of a database, read, decoded, transformed and copied ahead of their use.

    Iterating gives one epoch: as many full batches as it takes to see every record; they go on
    where the last ended, and start again after the last record, as Caffe's data layer does.
    Records are read in their order; to shuffle, convert with ``--shuffle``.

    On CUDA the images travel as uint8 through pinned memory on a stream of their own, and one
    kernel crops, mirrors, subtracts and scales them there.  (Images of different sizes, or of
    floats, are transformed on the host.)  The numbers are the same on every device.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        batch_size: int,
        transformer: Transformer | None = None,
        *,
        device: str | torch.device = "cpu",
        prefetch: int = 4,
        threads: int | None = None,
        rank: int = 0,
        rank_count: int = 1,
        skip_bad_records: int = 0,
        seed: int | None = None,
    ) -> None:
        """``path``: an LMDB, a LevelDB or a subset's index file.  ``seed``: of the crops and
        mirrors; None takes one draw of ``caffe_compat.random.generator()``.

        Raises DataError when the database or its first record cannot be used.
        """
        self.transformer = transformer or Transformer()
        self.transformer.start_random(seed)
        self.device = torch.device(device)
        self.prefetch = max(1, prefetch)
        self.source = DatabaseSource(
            open_database(path),
            self.transformer,
            batch_size,
            rank=rank,
            rank_count=rank_count,
            skip_bad_records=skip_bad_records,
            threads=threads,
        )
        self.shape: tuple[int, ...] = (batch_size, *self.source.peek_shape())  # of ``Batch.data``
        if not 0 < math.prod(self.shape) <= MAX_VALUES:
            raise DataError(
                f"{path}: batch_size {batch_size} gives a batch of {self.shape}; expected 1 to {MAX_VALUES} values"
            )
        self._state = self.source.state()
        self._prefetcher: Prefetcher[tuple[Batch, Any, dict[str, Any]]] | None = None

    def __len__(self) -> int:
        """Batches per epoch."""
        own = -(-len(self.source.database) // self.source.rank_count)
        return -(-own // self.source.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        for _ in range(len(self)):
            yield self.next_batch()

    def next_batch(self) -> Batch:
        """The next batch; raises what went wrong in the thread that made it."""
        if self._prefetcher is None or self._prefetcher.process != os.getpid():
            self._start()
        assert self._prefetcher is not None
        try:
            batch, ready, self._state = self._prefetcher.get()
        except BaseException:
            self.close()
            raise
        if ready is not None:
            stream = torch.cuda.current_stream(self.device)
            stream.wait_event(ready)
            for tensor in batch:
                tensor.record_stream(stream)  # their memory comes from the copying stream
        return batch

    @property
    def bad_records(self) -> int:
        """How many records have been passed over in the batches handed out."""
        return int(self._state["bad_records"])

    def state(self) -> dict[str, Any]:
        """Position and random state after the batches handed out; JSON-able."""
        return dict(self._state)

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on after the batches of a ``state``."""
        self._stop()
        self._state = dict(state)

    def close(self) -> None:
        """End the threads and release the database; ``next_batch`` would start them again."""
        self._stop()
        self.source.close()

    def __enter__(self) -> "Loader":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_prefetcher": None}

    def _start(self) -> None:
        self.source.set_state(self._state)
        stage: Any = DeviceStage(self.device, self.prefetch) if self.device.type == "cuda" else _host_stage
        source = self.source  # the thread must not keep the loader alive

        def produce() -> tuple[Batch, Any, dict[str, Any]]:
            batch, ready = stage(source)
            return batch, ready, source.state()

        self._prefetcher = Prefetcher(produce, self.prefetch, "loader")

    def _stop(self) -> None:
        if self._prefetcher is not None:
            self._prefetcher.close()
            self._prefetcher = None


def _host_stage(source: DatabaseSource) -> tuple[Batch, None]:
    def make(images: PlainImageBatch, labels: np.ndarray) -> Batch:
        return Batch(torch.from_numpy(source.maker.transform(images)), torch.from_numpy(labels).long())

    return source.make(make), None


class DeviceStage:
    """Makes batches on a CUDA device, on a stream of its own."""

    def __init__(self, device: torch.device, depth: int) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)
        # One slot is filled while the batches in the others are on their way to the device.
        self._slots = [_PinnedSlot() for _ in range(depth + 2)]
        self._turn = 0
        self._mean: Tensor | None = None
        self._mean_source: np.ndarray | None = None

    def __call__(self, source: DatabaseSource) -> tuple[Batch, torch.cuda.Event]:
        slot = self._slots[self._turn]
        self._turn = (self._turn + 1) % len(self._slots)
        slot.wait()
        batch, ready = source.make(lambda images, labels: self._fill(source, slot, images, labels))
        slot.ready = ready
        return batch, ready

    def _fill(
        self, source: DatabaseSource, slot: "_PinnedSlot", images: PlainImageBatch, labels: np.ndarray
    ) -> tuple[Batch, torch.cuda.Event]:
        maker, transformer = source.maker, source.transformer
        headers = images.headers()
        label = slot.take("label", (len(labels),), torch.int64)
        label.copy_(torch.from_numpy(labels))
        same_bytes = bool((headers[:, :4] == headers[0, :4]).all()) and headers[0, 0] == BYTES
        if same_bytes:
            pixels = slot.take("pixels", (len(labels), *headers[0, 1:4].tolist()), torch.uint8)
            maker.copy_bytes(images, pixels.numpy())
            windows = slot.take("windows", (len(labels), 3), torch.int32)
            windows.copy_(torch.from_numpy(transformer.draw_windows(headers[:, 2:4])))
        else:
            shape = transformer.output_shape(*headers[0, 1:4].tolist())
            values = slot.take("values", (len(labels), *shape), torch.float32)
            values.copy_(torch.from_numpy(maker.transform(images)))
        with torch.cuda.device(self._device), torch.cuda.stream(self._stream):
            if same_bytes:
                data = batch_transform(
                    pixels.to(self._device, non_blocking=True),
                    windows.to(self._device, non_blocking=True),
                    self._mean_on_device(transformer.mean_for(int(headers[0, 1]))),
                    float(transformer.scale),
                    transformer.output_shape(*headers[0, 1:4].tolist())[1:],
                )
            else:
                data = values.to(self._device, non_blocking=True)
            batch = Batch(data, label.to(self._device, non_blocking=True))
            ready = torch.cuda.Event()
            ready.record(self._stream)
        return batch, ready

    def _mean_on_device(self, mean: np.ndarray | None) -> Tensor | None:
        if mean is not self._mean_source:
            self._mean_source = mean
            # A copy: from_numpy warns of memory that may not be written, such as a file's.
            self._mean = None if mean is None else torch.tensor(mean, device=self._device)
        return self._mean


class _PinnedSlot:
    """Pinned buffers of one batch; free again once its copies to the device are done."""

    def __init__(self) -> None:
        self.ready: torch.cuda.Event | None = None
        self._tensors: dict[str, Tensor] = {}

    def wait(self) -> None:
        """Until the buffers may be written."""
        if self.ready is not None:
            self.ready.synchronize()

    def take(self, name: str, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """The buffer of this name, shape and dtype."""
        tensor = self._tensors.get(name)
        if tensor is None or tuple(tensor.shape) != tuple(shape):
            tensor = self._tensors[name] = torch.empty(tuple(shape), dtype=dtype, pin_memory=True)
        return tensor
