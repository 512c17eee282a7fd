"""Base of the layers whose batches are made ahead of time in a thread."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from caffe_compat.data.database_source import DatabaseSource
from caffe_compat.data.device_source import DeviceSource
from caffe_compat.data.prefetch import Prefetcher
from caffe_compat.data.transformer import Transformer
from caffe_compat.errors import DataError
from caffe_compat.layers.base import Layer, Shape, count
from caffe_compat.random import generator

#: of a record as Python's objects, beside its values
_RECORD_BYTES = 200


@contextmanager
def errors_with_place(layer: Layer) -> Iterator[None]:
    """Put the layer's place in front of a DataError."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{layer.where()}: {error}") from None


def make_transformer(layer: Layer) -> Transformer:
    """The Transformer of a layer's ``transform_param``; DataError with the layer's place."""
    with errors_with_place(layer):
        return Transformer.from_param(layer.param.transform_param, layer.phase)


def image_shape_without_data(layer: Layer, height: int = 0, width: int = 0, *, color: bool = True) -> Shape:
    """(C, H, W) of a layer's images as ``transform_param`` tells it, else ``height`` and ``width``; NetError otherwise.

    Three channels (one without ``color``), unless the transform says another number.
    """
    transform = layer.param.transform_param
    channels = 3 if color else 1
    if transform.force_gray or transform.force_color:
        channels = 1 if transform.force_gray else 3
    elif len(transform.mean_value) > 1:
        channels = len(transform.mean_value)
    if transform.crop_size:
        return channels, transform.crop_size, transform.crop_size
    if height < 1 or width < 1:
        layer.fail("transform_param has no crop_size, so that the size of its images is known from its data only")
    return channels, height, width


def draw_as_thread_starts(transformer: Transformer) -> None:
    """Take the draws of the process-wide stream that Caffe takes when a data layer is ready: its
    transformer is seeded anew, and its thread gets a stream of its own, which nobody uses."""
    transformer.start_random()
    generator().raw()


class BatchSource(Protocol):
    """What makes the batches; used by one thread at a time."""

    def load(self) -> tuple[Tensor, ...]: ...
    def state(self) -> dict[str, Any]: ...
    def set_state(self, state: dict[str, Any]) -> None: ...
    def close(self) -> None: ...


class Pool(Protocol):
    """What hands out batches in place of a layer's own source (``BatchPool``)."""

    def take(self, layer: "SourceLayer") -> tuple[Tensor, ...]:
        """What ``layer.make_batch`` would return."""


class SourceLayer(Layer):
    """A layer without bottoms that hands out the batches of a ``BatchSource``.

    ``setup`` of a subclass builds ``self.source``.  The thread starts with the first batch, and
    ``source_state`` tells the state after the batches handed out, not after those made ahead.
    """

    is_source = True
    has_backward = False
    bottom_count = (0, 0)
    top_count: ClassVar[tuple[int, int | None]] = (1, 2)

    source: BatchSource
    #: hands out batches that other layers would make, too; None: this one makes its own
    pool: Pool | None = None
    #: what stands in the place of a batch's images; None: the images
    features: Callable[[Tensor], Tensor] | None = None
    prefetch_depth = 4  # batches ahead, as Caffe's data_param.prefetch; 0: made when asked for, without a thread

    def next_batch(self) -> tuple[Tensor, ...]:
        """The next batch, one tensor per top, in ``context.dtype`` (on the CPU unless ``source`` is a DeviceSource).

        DataError when it cannot be read.
        """
        tensors = self.make_batch() if self.pool is None else self.pool.take(self)
        return tensors if self.features is None else (self.features(tensors[0]), *tensors[1:])

    def make_batch(self) -> tuple[Tensor, ...]:
        """The next batch of our own source; see ``next_batch``."""
        if not self.prefetch_depth:
            tensors = self.source.load()
        else:
            if self._prefetcher is None or self._prefetcher.process != os.getpid():
                self._start()
            assert self._prefetcher is not None
            try:
                tensors, self._state = self._prefetcher.get()
            except BaseException:
                self._stop()
                raise
        for tensor in tensors:
            if tensor.is_cuda:  # its memory comes from the stream that made it
                tensor.record_stream(torch.cuda.current_stream(tensor.device))
        return tuple(t.to(self.context.dtype) for t in tensors[: len(self.param.top)])

    def held_bytes(self, *top_shapes: Shape) -> int:
        """The batches made ahead and the one in use, and what Python keeps of each record."""
        values = sum(map(count, top_shapes)) * torch.float32.itemsize
        return (self.prefetch_depth + 1) * (values + top_shapes[0][0] * _RECORD_BYTES)

    def forward(self) -> tuple[Tensor, ...]:
        """The same as ``next_batch``."""
        return self.next_batch()

    def make_batches_on(self, device: torch.device) -> bool:
        """From now on make the batches on ``device``, with the same numbers; whether this layer can.

        It can when it reads a database ahead of time in a thread (which may wait for the device), in float32.
        """
        source = self.source
        if not isinstance(source, DatabaseSource) or not self.prefetch_depth or self.context.dtype != torch.float32:
            return False
        self.source = DeviceSource(source, device, self.prefetch_depth)
        return True

    def source_state(self) -> dict[str, Any]:
        """State after the batches handed out so far, for ``load_source_state``."""
        return dict(self._state or self.source.state())

    def load_source_state(self, state: dict[str, Any]) -> None:
        """Go on after the batches of ``state``."""
        self._stop()
        self.source.set_state(dict(state))
        self._state = dict(state) if self.prefetch_depth else None

    def go_on_from(self, state: dict[str, Any]) -> None:
        """Go on after the batches of ``state``, which another layer has made; nothing is looked for before the next."""
        if self._prefetcher is not None:
            self._prefetcher.close()
            self._prefetcher = None
        self._state = state

    def close(self) -> None:
        """Stop the thread, close files; ``next_batch`` would open them again."""
        self._stop()
        self.source.close()

    def _errors_with_place(self) -> AbstractContextManager[None]:
        return errors_with_place(self)

    def _make_transformer(self) -> Transformer:
        return make_transformer(self)

    _prefetcher: Prefetcher[tuple[tuple[Tensor, ...], dict[str, Any]]] | None = None
    _state: dict[str, Any] | None = None

    def _start(self) -> None:
        if self._state is not None:  # after an error or a fork, the source may be ahead of us
            self.source.set_state(self._state)
        else:
            self._state = self.source.state()
        source = self.source  # the thread must not keep this layer alive

        def produce() -> tuple[tuple[Tensor, ...], dict[str, Any]]:
            return source.load(), source.state()

        self._prefetcher = Prefetcher(produce, self.prefetch_depth, self.name)

    def _stop(self) -> None:
        if self._prefetcher is not None:
            self._prefetcher.close()
            self._prefetcher = None
            if self._state is not None:
                self.source.set_state(self._state)

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        state["_prefetcher"] = None
        state["_state"] = self.source_state()
        state.pop("pool", None)  # a copy makes its own batches
        return state
