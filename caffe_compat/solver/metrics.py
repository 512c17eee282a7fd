"""Where structured metrics go: JSON lines, CSV, TensorBoard."""

import csv
import json
import math
import os
from pathlib import Path
from typing import Any, Protocol

from caffe_compat.errors import SolverError


class Sink(Protocol):
    """Takes events, dicts with ``event``, ``iteration``, ``time`` and the event's own values."""

    def write(self, record: dict[str, Any]) -> None:
        """Take one event."""

    def close(self) -> None:
        """Release the file."""


class JsonLines:
    """One JSON object a line, appended and flushed; a number that is not finite becomes "nan", "inf" or "-inf"."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115  open as long as the run

    def write(self, record: dict[str, Any]) -> None:
        self._file.write(json.dumps(_finite(record), allow_nan=False) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


class Csv:
    """Long form, ``time,iteration,event,name,value``: one row for every number of an event."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._file = open(path, "a", encoding="utf-8", newline="")  # noqa: SIM115
        self._writer = csv.writer(self._file)
        if self._file.tell() == 0:
            self._writer.writerow(["time", "iteration", "event", "name", "value"])

    def write(self, record: dict[str, Any]) -> None:
        for name, value in _numbers(record):
            self._writer.writerow([record["time"], record["iteration"], record["event"], name, f"{value:.9g}"])
        self._file.flush()

    def close(self) -> None:
        self._file.close()


class TensorBoard:
    """Scalars ``<event>/<name>`` in a TensorBoard folder; needs the ``tensorboard`` package."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise SolverError(f"{Path(folder)}: TensorBoard is not installed; run `pip install tensorboard`") from error
        self._writer = SummaryWriter(os.fspath(folder))  # type: ignore[no-untyped-call]

    def write(self, record: dict[str, Any]) -> None:
        for name, value in _numbers(record):
            tag = f"{record['event']}/{name}"
            self._writer.add_scalar(tag, value, record["iteration"], record["time"])  # type: ignore[no-untyped-call]

    def close(self) -> None:
        self._writer.close()  # type: ignore[no-untyped-call]


def _numbers(record: dict[str, Any]) -> list[tuple[str, float]]:
    rows: list[tuple[str, float]] = []
    for key, value in record.items():
        if key in ("event", "iteration", "time", "net"):
            continue
        net = f"net{record['net']}." if record.get("net") else ""
        values = value.items() if isinstance(value, dict) else [(key, value)]
        for name, item in values:
            for i, number in enumerate(item if isinstance(item, list) else [item]):
                if isinstance(number, int | float):
                    rows.append((net + name + (f"[{i}]" if isinstance(item, list) else ""), float(number)))
    return rows


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
