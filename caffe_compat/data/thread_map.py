"""A function applied to many items at once, in threads."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")


def usable_cores() -> int:
    """How many cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class ThreadMap:
    """A pool of threads, started at first use in each process; picklable.

    For functions that release the interpreter's lock, such as OpenCV's.
    """

    def __init__(self, threads: int | None = None) -> None:
        self.threads = threads or usable_cores()
        self._pool: ThreadPoolExecutor | None = None
        self._process = 0

    def __call__(self, function: Callable[[T], R], items: Iterable[T]) -> list[R]:
        """``[function(item) for item in items]``; an exception ends it and is raised."""
        if self._pool is None or self._process != os.getpid():
            self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="decode")
            self._process = os.getpid()
        given = list(items)
        results: list[Any] = [None] * len(given)
        places = iter(range(len(given)))  # each thread takes the next: a task for each item costs more

        def work() -> None:
            try:
                for place in places:
                    results[place] = function(given[place])
            except BaseException:
                for _ in places:  # the other threads stop after what they are at
                    pass
                raise

        tasks = []
        try:
            for _ in range(min(self.threads, len(given))):
                tasks.append(self._pool.submit(work))
        except RuntimeError:  # no more threads for this process: those there are, and this one, do it
            work()
            self._pool.shutdown(wait=True)  # the task that got no thread may have been taken by another one
            self._pool = None
        for task in tasks:
            task.result()
        return results

    def close(self) -> None:
        """End the threads; the next call starts new ones."""
        if self._pool is not None and self._process == os.getpid():
            self._pool.shutdown(wait=True, cancel_futures=True)
        self._pool = None

    def __getstate__(self) -> dict[str, Any]:
        return {"threads": self.threads, "_pool": None, "_process": 0}
