"""pycaffe's ``Timer``."""

import time

import torch

from caffe_compat.pycaffe import mode


class Timer:
    """Measures between ``start`` and ``stop``, the device's work included; ``ms`` is the result."""

    def __init__(self) -> None:
        self._start: float | None = None
        self._elapsed_ms = 0.0

    def start(self) -> None:
        self._start = self._now()

    def stop(self) -> None:
        if self._start is not None:
            self._elapsed_ms = (self._now() - self._start) * 1000
            self._start = None

    @property
    def ms(self) -> float:
        """Milliseconds; stops the timer where it still runs."""
        self.stop()
        return self._elapsed_ms

    def _now(self) -> float:
        if mode.device().type == "cuda":
            torch.cuda.synchronize(mode.device())
        return time.perf_counter()
