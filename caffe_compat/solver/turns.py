"""Work in turns, so that several solvers of one process can go on side by side."""

from collections.abc import Generator
from typing import TypeVar

T = TypeVar("T")
#: a turn at each ``next``: an iteration of training, or a batch of a test
Turns = Generator[None, None, T]


def take_all(turns: Turns[T]) -> T:
    """Take all turns, one after the other; what they return."""
    while True:
        try:
            next(turns)
        except StopIteration as end:
            result: T = end.value
            return result
