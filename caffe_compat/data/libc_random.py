"""The GNU C library's ``rand`` and libstdc++'s ``random_shuffle``, which Caffe's HDF5Data uses."""

from collections.abc import Iterator, MutableSequence
from contextlib import contextmanager
from typing import Any

_WORDS = 31  # of state
_WARM_UP = 310  # numbers that srand throws away
_MULTIPLIER, _MODULUS = 16807, 2**31 - 1  # of the generator that makes the first words from the seed


class LibcRandom:
    """``rand()`` after ``srand(seed)``: the additive feedback generator x[i] = x[i-3] + x[i-31]."""

    def __init__(self, seed: int = 1) -> None:
        words = [seed]
        for _ in range(1, _WORDS):
            words.append(words[-1] * _MULTIPLIER % _MODULUS)
        self._words = words
        self._position = 3  # the first sum is that of words 0 and 3
        for _ in range(_WARM_UP):
            self.next()

    def next(self) -> int:
        """The next number, 0 to 2^31 - 1."""
        words, i = self._words, self._position
        words[i] = (words[i] + words[i - 3]) & 0xFFFFFFFF
        self._position = (i + 1) % _WORDS
        return words[i] >> 1

    def shuffle(self, items: MutableSequence[Any]) -> None:
        """Reorder in place, as ``std::random_shuffle``."""
        for i in range(1, len(items)):
            j = self.next() % (i + 1)
            items[i], items[j] = items[j], items[i]

    def get_state(self) -> list[int]:
        """Position in the stream, JSON-able."""
        return [self._position, *self._words]

    def set_state(self, state: list[int]) -> None:
        """Continue from a ``get_state``; ValueError when ``state`` is not one."""
        if len(state) != 1 + _WORDS or not all(type(word) is int and 0 <= word < 1 << 32 for word in state):
            raise ValueError(f"{len(state)} values that are no state of rand()")
        if state[0] >= _WORDS:
            raise ValueError(f"position {state[0]} in a state of rand() of {_WORDS} words")
        self._position, *self._words = state


_process_random = LibcRandom(1)


def process_random() -> LibcRandom:
    """The stream of a process that never called ``srand``."""
    return _process_random


def restart_process_random() -> None:
    """Return the process's stream to its start, so that a seeded run repeats within one process."""
    process_random().set_state(LibcRandom(1).get_state())


@contextmanager
def scope() -> Iterator[None]:
    """A stream of its own for the block, at its start as in a new process; then the one before goes on."""
    global _process_random
    before, _process_random = _process_random, LibcRandom(1)
    try:
        yield
    finally:
        _process_random = before
