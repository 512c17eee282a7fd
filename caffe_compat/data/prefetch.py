"""A thread that makes batches ahead of their use."""

import os
import queue
import threading
import weakref
from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast

T = TypeVar("T")
_POLL_S = 0.1  # how long a stopped producer may sit in a full queue


class Prefetcher(Generic[T]):
    """Calls ``produce`` in a thread, up to ``depth`` results ahead.

    An exception in ``produce`` reaches the caller of ``get`` at the place where the result would
    have come, and ends the thread.  The thread ends too when the Prefetcher is closed or no
    longer used.
    """

    def __init__(self, produce: Callable[[], T], depth: int, name: str) -> None:
        self.process = os.getpid()
        self._results: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue(max(1, depth))
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=_run, args=(produce, self._results, self._stop), name=f"prefetch {name}", daemon=True
        )
        self._produce: Callable[[], T] | None = None
        try:
            self._thread.start()
        except RuntimeError:  # no more threads for this process: results are made when they are asked for
            self._produce = produce
        # Also at the interpreter's exit: a thread that is still at work then would crash.
        weakref.finalize(self, _end, self._stop, self._thread, self._results)

    def get(self) -> T:
        """The next result; raises what ``produce`` raised."""
        if self._produce is not None:
            return self._produce()
        while True:
            try:
                # Not without limit: Ctrl-C must get through, and a dead thread be noticed.
                result, error = self._results.get(timeout=1.0)
                break
            except queue.Empty:
                if not self._thread.is_alive() and self._results.empty():
                    raise RuntimeError(f"the thread {self._thread.name!r} has ended") from None
        if error is not None:
            self.close()
            raise error
        return cast(T, result)

    def close(self) -> None:
        """Stop the thread and wait for its end."""
        _end(self._stop, self._thread, self._results)


def _end(stop: threading.Event, thread: threading.Thread, results: queue.Queue[Any]) -> None:
    # (In a forked child the thread counts as not alive; the last reference may go in the thread itself.)
    stop.set()
    while thread.is_alive() and thread is not threading.current_thread():
        try:
            results.get_nowait()  # makes room, so that a waiting producer sees the stop at once
        except queue.Empty:
            thread.join(0.01)


def _run(produce: Callable[[], Any], results: queue.Queue[Any], stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            item: tuple[Any, BaseException | None] = (produce(), None)
        except BaseException as error:
            item = (None, error)
        while not stop.is_set():
            try:
                results.put(item, timeout=_POLL_S)
                break
            except queue.Full:
                continue
        if item[1] is not None:
            return
