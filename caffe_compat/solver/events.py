"""What happens in a training run, as data: the log makes these events, sinks write them, ``read_events`` reads them.

A JSON lines file has one event a line, with its kind under ``event``, its time under ``time`` and its other fields
under their own names.  Numbers that are not finite are the words "nan", "inf" and "-inf" there.
"""

import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self

from caffe_compat.errors import SolverError, refusal

#: a blob's name -> its number, or its numbers when it has several
OutputNumbers = Mapping[str, float | list[float]]


_KINDS: dict[str, type["Event"]] = {}


@dataclass(frozen=True)
class Event:
    """Base of all events; ``iteration`` counts updates, ``time_s`` is the wall time in seconds since 1970."""

    kind: ClassVar[str] = ""

    iteration: int
    time_s: float

    def __init_subclass__(cls) -> None:
        _KINDS[cls.kind] = cls

    def numbers(self) -> list[tuple[str, float]]:
        """(name, value) of every number that belongs into a curve."""
        return []

    def to_record(self) -> dict[str, Any]:
        """The event as a JSON object."""
        own = {name: _to_json(getattr(self, name)) for name in _own_fields(type(self))}
        return {"event": self.kind, "iteration": self.iteration, "time": self.time_s, **own}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """The event of a JSON object of this kind; KeyError for a missing field, ValueError, TypeError or
        AttributeError for a bad one."""
        own = {field.name: _from_json(field.type, record[field.name]) for field in fields(cls)[2:]}
        return cls(_number(record["iteration"], int), _number(record["time"]), **own)


@dataclass(frozen=True)
class StartEvent(Event):
    """A process begins to train: from here its seconds count."""

    kind = "start"


@dataclass(frozen=True)
class TrainEvent(Event):
    """A display: the smoothed loss, the speed since the last display, and the train net's outputs."""

    kind = "train"

    loss: float
    iterations_per_s: float
    outputs: OutputNumbers

    def numbers(self) -> list[tuple[str, float]]:
        """Loss, speed, and the outputs."""
        return [("loss", self.loss), ("iterations_per_s", self.iterations_per_s), *_output_numbers(self.outputs)]


@dataclass(frozen=True)
class LearningRateEvent(Event):
    """The global learning rate at a display."""

    kind = "lr"

    lr: float

    def numbers(self) -> list[tuple[str, float]]:
        """The rate."""
        return [("lr", self.lr)]


@dataclass(frozen=True)
class TestEvent(Event):
    """A test pass has ended: the test net's number, the mean loss (with test_compute_loss) and the mean outputs."""

    kind = "test"

    net: int
    loss: float | None
    outputs: OutputNumbers

    def output(self, name: str) -> float:
        """The mean of an output that is one number; SolverError when there is no such output."""
        value = self.outputs.get(name)
        if value is None or isinstance(value, list):
            there = ", ".join(self.outputs) or "none"
            raise SolverError(f"test at iteration {self.iteration}: no output {name} of one number; outputs: {there}")
        return value

    def numbers(self) -> list[tuple[str, float]]:
        """Loss, if there is one, and outputs; from the second test net on with ``net1.``, ... before the name."""
        loss = [] if self.loss is None else [("loss", self.loss)]
        prefix = f"net{self.net}." if self.net else ""
        return [(prefix + name, value) for name, value in (*loss, *_output_numbers(self.outputs))]


@dataclass(frozen=True)
class SnapshotEvent(Event):
    """A snapshot is whole: the paths of its weights and of its solver state."""

    kind = "snapshot"

    model: str
    state: str


@dataclass(frozen=True)
class FinalEvent(Event):
    """The loss of the forward pass after the last update."""

    kind = "final"

    loss: float

    def numbers(self) -> list[tuple[str, float]]:
        """The loss."""
        return [("loss", self.loss)]


@dataclass(frozen=True)
class DoneEvent(Event):
    """The run has come to its end."""

    kind = "done"


def read_events(path: str | os.PathLike[str], *, tail_bytes: int | None = None) -> Iterator[Event]:
    """The events of a JSON lines file, in order; with ``tail_bytes`` only those in so many bytes at its end.

    A line that was cut short (a killed process, a file still being written, the start of the tail) and an event of a
    kind that we do not know are passed over.  Raises SolverError when the file cannot be read, or an event lacks a
    field.
    """
    try:
        with open(path, "rb") as file:
            if tail_bytes is not None:
                file.seek(max(0, os.fstat(file.fileno()).st_size - tail_bytes))
            lines = file.read().splitlines()
    except OSError as error:
        raise SolverError(f"{os.fspath(path)}: cannot read the events: {refusal(error, path)}") from error
    return _parse(lines, os.fspath(path))


def _parse(lines: Iterable[bytes], place: str) -> Iterator[Event]:
    for line in lines:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        kind = record.get("event") if isinstance(record, dict) else None
        event_class = _KINDS.get(kind) if isinstance(kind, str) else None
        if event_class is None:
            continue
        try:
            yield event_class.from_record(record)
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            text = line.decode(errors="replace")
            raise SolverError(
                f"{place}: {event_class.kind} event with a bad or missing field ({error}): {text}"
            ) from None


def _own_fields(event_class: type[Event]) -> list[str]:
    shared = {field.name for field in fields(Event)}
    return [field.name for field in fields(event_class) if field.name not in shared]


def _output_numbers(outputs: OutputNumbers) -> Iterator[tuple[str, float]]:
    for name, value in outputs.items():
        if isinstance(value, list):
            yield from ((f"{name}[{i}]", number) for i, number in enumerate(value))
        else:
            yield name, value


def _map_numbers(value: Any, change: Callable[[Any], Any]) -> Any:
    """``value`` with ``change`` made to it, or to all that it holds."""
    if isinstance(value, Mapping):
        return {key: _map_numbers(item, change) for key, item in value.items()}
    if isinstance(value, list):
        return [_map_numbers(item, change) for item in value]
    return change(value)


def _to_json(value: Any) -> Any:
    return _map_numbers(value, lambda x: str(x) if isinstance(x, float) and not math.isfinite(x) else x)


def _from_json(kind: Any, value: Any) -> Any:
    """A field's value; TypeError, ValueError or AttributeError for one that is not of this type."""
    if kind is str:
        if not isinstance(value, str):
            raise TypeError(f"{value!r} is no text")
        return value  # a path, which may be named "nan"
    if kind is OutputNumbers:
        return {
            name: [_number(n) for n in item] if isinstance(item, list) else _number(item)
            for name, item in value.items()
        }
    return None if value is None and kind == float | None else _number(value, int if kind is int else float)


def _number(value: Any, kind: type[int] | type[float] = float) -> Any:
    if isinstance(value, str):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, (int, kind)):
        raise TypeError(f"{value!r} is no number")
    return value
