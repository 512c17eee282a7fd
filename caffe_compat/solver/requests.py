"""Requests to a running solver: to stop, or to snapshot."""

from collections.abc import Callable

from caffe_compat.solver.parallel import Parallel
from caffe_compat.solver.signals import SignalActions


class Requests:
    """Asks ``action`` for "none", "stop" or "snapshot" and sees to it; ``snapshot`` writes one."""

    def __init__(self, parallel: Parallel, snapshot: Callable[[], object]) -> None:
        self.action: Callable[[], str] = _nothing
        #: whether training ends after the present iteration
        self.stopping = False
        self._parallel, self._snapshot = parallel, snapshot

    @property
    def asks_user(self) -> bool:
        """Whether ``action`` is somebody's own code, and neither the command's signals nor nothing."""
        return self.action is not _nothing and not isinstance(getattr(self.action, "__self__", None), SignalActions)

    def answer(self, *, snapshot_due: bool) -> None:
        """After an iteration: all processes together do the strongest that one of them asks for.

        ``snapshot_due``: whether a snapshot is written anyway.
        """
        request = self._parallel.agree(self.action())
        if snapshot_due or request == "snapshot":
            self._snapshot()
        if request == "stop":
            self.stopping = True

    def answer_while_testing(self) -> bool:
        """Answer all that is pending; whether one of the requests is to stop."""
        if self._parallel.count > 1:
            return False  # only the root tests; it answers after the iteration, with the others
        while (request := self.action()) != "none":
            if request == "snapshot":
                self._snapshot()
            elif request == "stop":
                self.stopping = True
        return self.stopping


def _nothing() -> str:
    return "none"
