"""Reads training logs: Caffe 1.0's (and ours), and those of 2014's Caffe."""

import gzip
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TextIO

from caffe_compat.errors import SolverError, reading

_NUMBER = r"([-+]?(?:[0-9.]+(?:e[-+]?[0-9]+)?|nan|inf))"
_PREFIX = re.compile(r"^[IWEF]((?:\d{4})?\d{4} [0-9:.]+)\s+\d+ (\S+)\] (.*)$")
_TRAIN = re.compile(rf"Iteration (\d+)(?: \(.*?\))?,\s+loss = {_NUMBER}")
_RATE = re.compile(rf"Iteration (\d+), lr = {_NUMBER}")
_TESTING = re.compile(r"Iteration (\d+), Testing net(?: \(#(\d+)\))?")
_OUTPUT = re.compile(rf"\s*(Train|Test) net output #(\d+): (\S+) = {_NUMBER}")
_SCORE = re.compile(rf"Test score #(\d+): {_NUMBER}")
_TEST_LOSS = re.compile(rf"Test loss: {_NUMBER}")
_FILE = re.compile(
    r"(Snapshotting solver state|Snapshotting|Resuming|Restoring previous solver status)(?: to| from)?"
    r"(?: (?:binary proto|HDF5))?(?: file)? (\S+)$"
)

_LONGEST_LINE = 1 << 20  # characters; a longer one, as a bomb's, is taken in parts

#: what 2014's numbered scores are in the paper's nets
_SCORE_NAMES = {"accuracy": 0, "loss": 1}


@dataclass
class LogEvent:
    """One thing that a log tells.

    ``kind``: ``train`` (smoothed loss), ``lr``, ``train_output``, ``test_output``, ``test_loss``, ``snapshot``,
    ``state``, ``resume`` or ``done``.  ``stamp`` is glog's date and time as text.  ``name`` and ``index`` are an
    output's (2014's scores have no name); ``net`` is the test net's number; ``path`` a snapshot's file.
    """

    kind: str
    iteration: int
    stamp: str
    value: float = 0.0
    name: str = ""
    index: int = 0
    net: int = 0
    path: str = ""


def read_log(path: str | os.PathLike[str]) -> list[LogEvent]:
    """The events of one log file (``.gz`` too), in order; lines that say nothing of training are passed over.

    Raises SolverError when the file cannot be read.
    """
    opener = gzip.open if os.fspath(path).endswith(".gz") else open
    with (
        reading(path, "a training log", SolverError),
        opener(path, "rt", encoding="utf-8", errors="replace") as file,
    ):
        return _Reader(os.fspath(path)).read(file)


def read_logs(paths: Iterable[str | os.PathLike[str]]) -> list[LogEvent]:
    """The events of a run that was restarted, from all its files, by iteration.

    Where an iteration appears twice, the later time stamp wins.
    """
    latest: dict[tuple[str, int, str, int, int], LogEvent] = {}
    for path in paths:
        for event in read_log(path):
            key = (event.kind, event.iteration, event.name, event.index, event.net)
            if key not in latest or event.stamp >= latest[key].stamp:
                latest[key] = event
    return sorted(latest.values(), key=lambda event: event.iteration)


def score_curve(events: Iterable[LogEvent], name: str = "accuracy", net: int = 0) -> list[tuple[int, float]]:
    """(iteration, value) of one test output; 2014's unnamed scores count as accuracy (#0) and loss (#1)."""
    return [
        (event.iteration, event.value)
        for event in events
        if event.kind == "test_output"
        and event.net == net
        and (event.name == name or (not event.name and event.index == _SCORE_NAMES.get(name)))
    ]


class _Reader:
    """Keeps what later lines refer to: the iteration and the test net."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.events: list[LogEvent] = []
        self.iteration = 0
        self.net = 0

    def read(self, file: TextIO) -> list[LogEvent]:
        lines = iter(lambda: file.readline(_LONGEST_LINE), "")
        for number, line in enumerate(lines, 1):
            match = _PREFIX.match(line.rstrip("\n"))
            if match:
                with reading(self.path, "a training log", SolverError, f"line {number}"):
                    self._read_message(match[1], match[3])
        return self.events

    def _read_message(self, stamp: str, text: str) -> None:
        if match := _TRAIN.match(text):
            self._add("train", stamp, iteration=int(match[1]), value=float(match[2]))
        elif match := _RATE.match(text):
            self._add("lr", stamp, iteration=int(match[1]), value=float(match[2]))
        elif match := _TESTING.match(text):
            self.iteration, self.net = int(match[1]), int(match[2] or 0)
        elif match := _SCORE.match(text):
            self._add("test_output", stamp, index=int(match[1]), value=float(match[2]), net=self.net)
        elif match := _OUTPUT.match(text):
            self._add_output(stamp, match)
        elif match := _TEST_LOSS.match(text):
            self._add("test_loss", stamp, value=float(match[1]), net=self.net)
        elif match := _FILE.match(text):
            kind = {"Snapshotting solver state": "state", "Snapshotting": "snapshot"}.get(match[1], "resume")
            self._add(kind, stamp, path=match[2])
        elif text.startswith("Optimization Done"):
            self._add("done", stamp)

    def _add(self, kind: str, stamp: str, iteration: int | None = None, **values: object) -> None:
        if iteration is not None:
            self.iteration = iteration
        event = LogEvent(kind, self.iteration, stamp, **values)  # type: ignore[arg-type]
        # One event in two wordings, or at two places of the program.
        same = self.events and self.events[-1].kind == kind and self.events[-1].iteration == self.iteration
        if not (same and kind in ("train", "done", "resume") and self.events[-1].value == event.value):
            self.events.append(event)

    def _add_output(self, stamp: str, match: re.Match[str]) -> None:
        kind, index = f"{match[1].lower()}_output", int(match[2])
        net = self.net if kind == "test_output" else 0
        event = LogEvent(kind, self.iteration, stamp, float(match[4]), match[3], index, net)
        for i in range(len(self.events) - 1, -1, -1):
            earlier = self.events[i]
            if earlier.kind not in ("test_output", "test_loss") or earlier.iteration != self.iteration:
                break
            if earlier.kind == kind and not earlier.name and (earlier.index, earlier.net) == (index, net):
                self.events[i] = event  # the same number, named
                return
        self.events.append(event)
