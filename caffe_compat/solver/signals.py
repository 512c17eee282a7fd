"""SIGINT and SIGHUP as requests to a running solver, as ``caffe train`` takes them; SIGTERM where it is asked for."""

import signal
from types import FrameType, TracebackType
from typing import Any

from caffe_compat.errors import SolverError

#: in order of strength: a stop ends with a snapshot
ACTIONS = ("none", "snapshot", "stop")


class SignalActions:
    """While entered, notes the signals; ``requested()`` names the action due since the last call.

    SIGTERM stays what it is, an end at once, unless ``sigterm_effect`` says otherwise.
    Must be entered in the main thread.  Raises SolverError for an effect that is not stop, snapshot or none.
    """

    def __init__(
        self, sigint_effect: str = "stop", sighup_effect: str = "snapshot", sigterm_effect: str | None = None
    ) -> None:
        effects = {"sigint_effect": sigint_effect, "sighup_effect": sighup_effect}
        if sigterm_effect is not None:
            effects["sigterm_effect"] = sigterm_effect
        for flag, effect in effects.items():
            if effect not in ACTIONS:
                raise SolverError(f'--{flag} is "{effect}"; expected stop, snapshot or none')
        self._effects = {signal.SIGHUP: sighup_effect} if hasattr(signal, "SIGHUP") else {}  # Windows has none
        self._effects[signal.SIGINT] = sigint_effect
        if sigterm_effect is not None:
            self._effects[signal.SIGTERM] = sigterm_effect
        self._seen: set[int] = set()
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "SignalActions":
        for number in self._effects:
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._seen.add(number)

    def requested(self) -> str:
        """What the signals since the last call ask for, one signal at a time, SIGHUP first; "none" without any."""
        for number, effect in self._effects.items():
            if number in self._seen:
                self._seen.discard(number)
                return effect
        return "none"
