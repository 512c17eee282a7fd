"""Signals that ask a process to leave: SIGTERM, and what queues send before the time is over or a job is preempted."""

import signal
import threading
from collections.abc import Iterable
from typing import Any

#: Slurm's --signal is SIGUSR1 by habit; submitit asks for SIGUSR2
LEAVE = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


class StopSignals:
    """While entered, notes the signals in place of what they do otherwise; ``seen``: the first one, 0 for none.

    Outside of the main thread, where no handlers can be set, nothing is changed.
    """

    def __init__(self, numbers: Iterable[signal.Signals] = LEAVE) -> None:
        self.seen = 0
        self._numbers, self._before = tuple(numbers), dict[signal.Signals, Any]()

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in self._numbers}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def asked(self) -> bool:
        """Whether one has come."""
        return self.seen != 0

    def _note(self, number: int, frame: object) -> None:
        self.seen = self.seen or number
