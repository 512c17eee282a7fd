"""Batches of a database that are made on a CUDA device: images travel there as bytes."""

from typing import Any

import torch
from torch import Tensor

from caffe_compat.data.database_source import DatabaseSource
from caffe_compat.data.loader import DeviceStage


class DeviceSource:
    """A ``DatabaseSource`` with ``Loader``'s way to the device: pinned bytes, a stream of their own, one kernel.

    The batches equal those that the source makes on the host.
    """

    def __init__(self, source: DatabaseSource, device: torch.device, depth: int) -> None:
        """``depth``: how many batches may wait on the device."""
        self.source = source
        self.device = device
        self._depth = depth
        self._stage: DeviceStage | None = None

    def load(self) -> tuple[Tensor, Tensor]:
        """The next batch, complete: data (N, C, H, W) float32 and labels (N) int64, on the device."""
        if self._stage is None:
            self._stage = DeviceStage(self.device, self._depth)
        batch, ready = self._stage(self.source)
        ready.synchronize()  # only the thread that makes batches waits
        return batch.data, batch.label

    def state(self) -> dict[str, Any]:
        """As ``DatabaseSource.state``."""
        return self.source.state()

    def set_state(self, state: dict[str, Any]) -> None:
        """As ``DatabaseSource.set_state``."""
        self.source.set_state(state)

    def close(self) -> None:
        """As ``DatabaseSource.close``."""
        self._stage = None
        self.source.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_stage": None}
