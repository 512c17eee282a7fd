"""In which order the lines of a list are read: as they stand, or shuffled anew for each epoch, as Caffe's ImageData."""

import operator
import os
from typing import Any

import numpy as np

from caffe_compat.errors import DataError
from caffe_compat.random import CaffeGenerator

_SHUFFLE_COST = 25  # of a shuffle, beside that of each image, in images
_MOST_REPEATED = 2**31 - 1  # images that are shuffled again to go on from a saved state: about ten minutes


class ListOrder:
    """The numbers of the lines, one after the other, without end."""

    def __init__(self, path: str | os.PathLike[str], length: int, shuffle_seed: int | None, skip: int = 0) -> None:
        """``path``: of the list, for errors; ``shuffle_seed``: None where nothing is shuffled; ``skip``: where the
        first epoch starts."""
        self._path, self._length, self._seed = path, length, shuffle_seed
        self._restart()
        self._next = skip

    def peek(self) -> int:
        """The next number, without taking it."""
        return int(self._order[self._next])

    def next(self) -> int:
        """The next number."""
        number = self.peek()
        self._next += 1
        if self._next == self._length:
            self._next = 0
            self._shuffle()
        return number

    def state(self) -> dict[str, Any]:
        """The position after the numbers taken so far."""
        return {"seed": self._seed, "shuffles": self._shuffles, "next": self._next}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from a ``state``; repeats its shuffles.  DataError when it is that of another list."""
        if (state["seed"] is None) != (self._seed is None):
            raise DataError(f"{self._path}: the saved state is {'un' if self._seed is not None else ''}shuffled")
        if not 0 <= state["next"] < self._length:
            raise DataError(f"{self._path}: has {self._length} images; the saved state stood at {state['next']}")
        shuffles = operator.index(state["shuffles"])
        if shuffles * (self._length + _SHUFFLE_COST) > _MOST_REPEATED:
            raise DataError(
                f"{self._path}: the saved state stood behind {shuffles} shuffles of {self._length} images, "
                "more than a training makes; damaged, start from another snapshot"
            )
        self._seed = state["seed"]
        self._restart()
        while self._shuffles < shuffles:
            self._shuffle()
        self._next = state["next"]

    def _restart(self) -> None:
        self._order = np.arange(self._length)
        self._next = 0
        self._shuffles = 0
        self._shuffler = CaffeGenerator(self._seed) if self._seed is not None else None
        self._shuffle()

    def _shuffle(self) -> None:
        if self._shuffler is not None:
            order = self._order.tolist()
            self._shuffler.shuffle(order)
            self._order = np.array(order)
            self._shuffles += 1
