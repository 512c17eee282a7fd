"""Where structured metrics go: JSON lines, CSV, TensorBoard."""

import csv
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from caffe_compat.errors import SolverError, refusal
from caffe_compat.solver.events import Event


class Sink(Protocol):
    """Takes the events of a run as they happen."""

    def write(self, event: Event) -> None:
        """Take one event."""

    def close(self) -> None:
        """Release the file."""


@contextmanager
def _named(path: str) -> Iterator[None]:
    """A full disk names no file by itself."""
    try:
        yield
    except OSError as error:
        raise SolverError(f"{path}: cannot be written: {refusal(error, path)}") from error


class JsonLines:
    """One JSON object a line, appended and flushed; a number that is not finite becomes "nan", "inf" or "-inf"."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = os.fspath(path)
        with _named(self._path):
            self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115  open as long as the run

    def write(self, event: Event) -> None:
        with _named(self._path):
            self._file.write(json.dumps(event.to_record(), allow_nan=False) + "\n")
            self._file.flush()

    def close(self) -> None:
        with _named(self._path):
            self._file.close()


class Csv:
    """Long form, ``time,iteration,event,name,value``: one row for every number of an event."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = os.fspath(path)
        with _named(self._path):
            self._file = open(path, "a", encoding="utf-8", newline="")  # noqa: SIM115
        self._writer = csv.writer(self._file)
        if self._file.tell() == 0:
            self._writer.writerow(["time", "iteration", "event", "name", "value"])

    def write(self, event: Event) -> None:
        with _named(self._path):
            for name, value in event.numbers():
                self._writer.writerow([event.time_s, event.iteration, event.kind, name, f"{value:.9g}"])
            self._file.flush()

    def close(self) -> None:
        with _named(self._path):
            self._file.close()


class TensorBoard:
    """Scalars ``<event>/<name>`` in a TensorBoard folder; needs the ``tensorboard`` package."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise SolverError(f"{Path(folder)}: TensorBoard is not installed; run `pip install tensorboard`") from error
        self._writer = SummaryWriter(os.fspath(folder))

    def write(self, event: Event) -> None:
        for name, value in event.numbers():
            tag = f"{event.kind}/{name}"
            self._writer.add_scalar(tag, value, event.iteration, event.time_s)

    def close(self) -> None:
        self._writer.close()
