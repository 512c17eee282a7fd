"""Random streams of one's own, for several trainings that take turns in one process."""

import random as python_random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from caffe_compat.random.process_stream import Stream, exchange


class OwnStreams:
    """All streams that a net may draw from: Caffe's, PyTorch's (CPU, and ``device`` where that is CUDA), and those of
    NumPy and Python, for Python layers.

    Caffe's begins as in a new process, the others where the process's stand now.  (The C library's ``rand()``, which
    some forks' transforms take, stays one for all.)
    """

    def __init__(self, device: torch.device) -> None:
        self._caffe = Stream()
        self._torch = torch.get_rng_state()
        self._numpy = np.random.get_state(legacy=False)
        self._python = python_random.getstate()
        self._default: torch.Generator | None = None
        if device.type == "cuda":
            torch.cuda.init()
            self._default = torch.cuda.default_generators[device.index or 0]
            self._cuda = self._default.clone_state()

    @contextmanager
    def in_force(self) -> Iterator[None]:
        """The block draws from these streams; behind it the process's go on where they stood.  In all threads."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def _exchange(self) -> None:
        """The process's streams for those that are held."""
        self._caffe = exchange(self._caffe)
        values = torch.get_rng_state(), np.random.get_state(legacy=False), python_random.getstate()
        torch.set_rng_state(self._torch)
        np.random.set_state(self._numpy)
        python_random.setstate(self._python)
        self._torch, self._numpy, self._python = values
        if self._default is not None:
            # The object, not its numbers: a CUDA graph draws from the one that it was recorded with.
            state = self._default.graphsafe_get_state()
            self._default.graphsafe_set_state(self._cuda)
            self._cuda = state
