"""Caffe's blobs: a shape over memory that blobs may share, on the net's device, copied to the host when asked for."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy.typing as npt
import torch
from torch import Tensor, nn

from caffe_compat.errors import NetError
from caffe_compat.layers.base import Layer, Shape

Array = npt.NDArray[Any]


@dataclass
class Place:
    """Where the memories of a net live, and how often something was copied between there and the host.

    ``apart``: the host cannot reach the memory itself and works on copies.
    """

    device: torch.device
    dtype: torch.dtype
    apart: bool
    copies_to_host: int = 0
    copies_to_device: int = 0
    _parameters: "dict[int, tuple[ParamMemory, ParamMemory]]" = field(default_factory=dict)

    def memories_of(self, parameter: nn.Parameter) -> "tuple[ParamMemory, ParamMemory]":
        """Those of a parameter's value and gradient; one pair, however many layers (of nets here) share it."""
        if id(parameter) not in self._parameters:
            pair = ParamMemory(self, parameter, diff=False), ParamMemory(self, parameter, diff=True)
            self._parameters[id(parameter)] = pair
        return self._parameters[id(parameter)]

    def zeros(self, count: int) -> Tensor:
        return torch.zeros(count, dtype=self.dtype, device=self.device)


class Memory:
    """A piece of memory, in whatever shape, zeros at first.

    ``exposed``: a caller has an array over it and may write there at any time.
    """

    def __init__(self, place: Place, count: int) -> None:
        self.place = place
        self.count = count
        self.exposed = False
        self._tensor: Tensor | None = None  # on the device; made when asked for
        self._host: Tensor | None = None
        self._newest: Literal["host", "device", "both"] = "device"

    def read(self) -> Tensor:
        """On the device, to be read."""
        if self._tensor is None and self._newest == "device":
            self._tensor = self.place.zeros(self.count)
        if self._newest == "host":
            assert self._host is not None
            self.place.copies_to_device += 1
            # A new tensor: what a layer's forward has kept of the old one stays.
            self._tensor = self._host.to(self.place.device, copy=True)
            self._newest = "both"
        assert self._tensor is not None
        return self._tensor

    def write(self) -> Tensor:
        """On the device, to be read and written."""
        tensor = self.read()
        self._newest = "device"
        return tensor

    def host(self) -> Tensor:
        """On the host, to be read and written by a caller, until the net uses the memory again."""
        if not self.place.apart:
            if not self.exposed and self._tensor is not None:
                self._tensor = self._tensor.clone()  # what a layer's forward has kept of the old one stays
            self.exposed = True
            return self.read()
        self.exposed = True
        if self._host is None:
            self._host = torch.zeros(self.count, dtype=self.place.dtype)
        if self._newest == "device" and self._tensor is not None:
            self.place.copies_to_host += 1
            self._host.copy_(self._tensor.view(-1))
        self._newest = "host"
        return self._host

    def put(self, value: Tensor, *, fresh: bool) -> None:
        """Write ``value`` to the front.  A ``fresh`` one, that nobody else holds, may become the memory itself."""
        count = value.numel()
        if fresh and count == self.count and value.is_contiguous() and (self.place.apart or not self.exposed):
            # .data cuts off version counting, also of what a record has saved.
            self._tensor = value.data if value.requires_grad else value
        else:
            if self._newest == "host" and count == self.count:
                self._tensor, self._newest = None, "device"  # all of it comes now
            self.read().view(-1)[:count].view(value.shape).copy_(value)
        self._newest = "device"


class ParamMemory:
    """The same over a parameter's value, or over its gradient, where somebody else may write at any time."""

    exposed = True

    def __init__(self, place: Place, parameter: nn.Parameter, *, diff: bool) -> None:
        self.place = place
        self.parameter = parameter
        self._diff = diff
        self._host: Tensor | None = None
        self._written = False  # the host's copy is newer

    @property
    def count(self) -> int:
        return self.parameter.numel()

    def _device(self) -> Tensor:
        if not self._diff:
            return self.parameter.data.view(-1)
        if self.parameter.grad is None:
            self.parameter.grad = torch.zeros_like(self.parameter)
        return self.parameter.grad.data.view(-1)

    def read(self) -> Tensor:
        """On the device, to be read."""
        tensor = self._device()
        if self._written:
            assert self._host is not None
            self.place.copies_to_device += 1
            tensor.copy_(self._host)
            self._written = False
        return tensor

    write = read

    def host(self) -> Tensor:
        """On the host, to be read and written by a caller, until the net uses the memory again."""
        if not self.place.apart:
            return self._device()
        if self._host is None or self._host.numel() != self.count:
            self._host = torch.empty(self.count, dtype=self.parameter.dtype)
            self._written = False
        if not self._written:
            self.place.copies_to_host += 1
            self._host.copy_(self._device())
            self._written = True
        return self._host

    def put(self, value: Tensor, *, fresh: bool) -> None:
        """Write ``value`` to the front."""
        self.read()[: value.numel()].view(value.shape).copy_(value)


class _Views:
    """What blobs of both kinds show: device tensors and host arrays of their shape."""

    shape: Shape
    data_memory: Memory | ParamMemory
    diff_memory: Memory | ParamMemory

    @property
    def count(self) -> int:
        return count_of(self.shape)

    @property
    def data(self) -> Tensor:
        """The value on the net's device, to be read and written."""
        return self._shaped(self.data_memory.write())

    @property
    def diff(self) -> Tensor:
        """The gradient on the net's device, to be read and written."""
        return self._shaped(self.diff_memory.write())

    def read_data(self) -> Tensor:
        """The value on the net's device, not to be written."""
        return self._shaped(self.data_memory.read())

    def peek_data(self) -> Tensor:
        """The same for a pass without a record, a little cheaper: perhaps the memory itself."""
        memory = self.data_memory.read()
        return memory if memory.shape == self.shape else self._shaped(memory)

    def read_diff(self) -> Tensor:
        """The gradient on the net's device, not to be written."""
        return self._shaped(self.diff_memory.read())

    def host_data(self) -> Array:
        """The value as an array; what is written there holds for the passes to come."""
        result: Array = self._shaped(self.data_memory.host()).numpy()
        return result

    def host_diff(self) -> Array:
        """The gradient, in the same way."""
        result: Array = self._shaped(self.diff_memory.host()).numpy()
        return result

    def _shaped(self, memory: Tensor) -> Tensor:
        # .data cuts off version counting: a layer's saved bottom may be written by the caller.
        if memory.shape == self.shape:
            return memory.data
        count, held = self.count, memory.numel()
        if held < count:
            raise NetError(f"a blob of shape {self.shape} shares memory of {held} values; run the net's reshape")
        return (memory if held == count else memory.view(-1)[:count]).data.view(self.shape)


def count_of(shape: Sequence[int]) -> int:
    """The number of values of a shape."""
    count = 1
    for size in shape:
        count *= size
    return count


class TensorBlob(_Views):
    """A value (``data``) and its gradient (``diff``), both contiguous and of one shape.

    ``reshape`` keeps the memory, and with it the leading values, while the count fits what the blob once had.
    """

    def __init__(self, shape: Sequence[int], place: Place) -> None:
        self.place = place
        self.shape = ()
        self._capacity = -1
        self.reshape(shape)

    def reshape(self, shape: Sequence[int]) -> None:
        """Set the shape; new memories, zero-filled and the blob's own, only when it outgrows what it had."""
        self.shape = tuple(int(size) for size in shape)
        if any(size < 0 for size in self.shape):
            raise NetError(f"a blob cannot have the shape {self.shape}; sizes are 0 or more")
        if self.count > self._capacity:
            self._capacity = self.count
            self.data_memory = Memory(self.place, self.count)
            self.diff_memory = Memory(self.place, self.count)

    def share_data(self, other: _Views) -> None:
        """Use ``other``'s data from now on."""
        self.data_memory = other.data_memory

    def share_diff(self, other: _Views) -> None:
        """Use ``other``'s gradient from now on."""
        self.diff_memory = other.diff_memory


class ParamBlob(_Views):
    """The same view of a layer's parameter; ``diff`` is the parameter's ``grad``."""

    def __init__(self, layer: Layer, index: int, place: Place) -> None:
        self._layer, self._index = layer, index
        self.parameter = layer.blobs[index]
        self.shape = layer.blob_shapes[index]
        self.data_memory, self.diff_memory = place.memories_of(self.parameter)

    def flush(self) -> None:
        """Bring to the device what a caller wrote on the host."""
        self.data_memory.read()
        if self.parameter.grad is not None:
            self.diff_memory.read()

    def reshape(self, shape: Sequence[int]) -> None:
        """Set the shape; a parameter of another count keeps its leading values; its layer has to cope."""
        self.shape = tuple(int(size) for size in shape)
        if self.count != self.parameter.numel():
            self.flush()
            self._layer.resize_blob(self._index, self.shape)
