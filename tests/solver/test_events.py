"""Events as data: their JSON form, their numbers, and the reader of a file that a kill has cut."""

import json
import math
from pathlib import Path

import pytest

from caffe_compat.errors import SolverError
from caffe_compat.solver import events, read_events

ALL: tuple[tuple[events.Event, dict[str, object], list[tuple[str, float]]], ...] = (
    (events.StartEvent(0, 1.5), {"event": "start", "iteration": 0, "time": 1.5}, []),
    (
        events.TrainEvent(20, 2.5, 6.5, 10.0, {"loss": 6.0, "v": [1.0, math.inf]}),
        {
            "event": "train",
            "iteration": 20,
            "time": 2.5,
            "loss": 6.5,
            "iterations_per_s": 10.0,
            "outputs": {"loss": 6.0, "v": [1.0, "inf"]},
        },
        [("loss", 6.5), ("iterations_per_s", 10.0), ("loss", 6.0), ("v[0]", 1.0), ("v[1]", math.inf)],
    ),
    (
        events.LearningRateEvent(20, 2.5, 0.01),
        {"event": "lr", "iteration": 20, "time": 2.5, "lr": 0.01},
        [("lr", 0.01)],
    ),
    (
        events.TestEvent(40, 3.0, 0, None, {"accuracy": 0.5}),
        {"event": "test", "iteration": 40, "time": 3.0, "net": 0, "loss": None, "outputs": {"accuracy": 0.5}},
        [("accuracy", 0.5)],
    ),
    (
        events.TestEvent(40, 3.0, 2, 1.25, {"accuracy": 0.5}),
        {"event": "test", "iteration": 40, "time": 3.0, "net": 2, "loss": 1.25, "outputs": {"accuracy": 0.5}},
        [("net2.loss", 1.25), ("net2.accuracy", 0.5)],
    ),
    (
        events.SnapshotEvent(50, 4.0, "nan", "s.solverstate"),
        {"event": "snapshot", "iteration": 50, "time": 4.0, "model": "nan", "state": "s.solverstate"},
        [],
    ),
    (
        events.FinalEvent(60, 5.0, -math.inf),
        {"event": "final", "iteration": 60, "time": 5.0, "loss": "-inf"},
        [("loss", -math.inf)],
    ),
    (events.DoneEvent(60, 5.0), {"event": "done", "iteration": 60, "time": 5.0}, []),
)


@pytest.mark.parametrize(("event", "record", "numbers"), ALL)
def test_to_record_and_back(event: events.Event, record: dict[str, object], numbers: list[tuple[str, float]]) -> None:
    assert event.to_record() == record
    assert list(event.to_record()) == list(record)  # the order of the keys, too: files stay the same
    assert type(event).from_record(record) == event
    assert event.numbers() == numbers


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for _, record, _ in ALL))
    assert list(read_events(path)) == [event for event, _, _ in ALL]


def test_lines_cut_short_and_unknown_kinds_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    start = json.dumps(ALL[0][1])
    path.write_text(f'{start}\n{{"event": "train", "iter\n[1]\n{{"event": "party"}}\n3\n{start}\n{start[:-3]}')
    assert list(read_events(path)) == [ALL[0][0]] * 2


def test_the_tail_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    lines = [json.dumps(record) for _, record, _ in ALL]
    path.write_text("\n".join(lines) + "\n")
    size = len(lines[-1]) + 1 + len(lines[-2]) // 2
    assert list(read_events(path, tail_bytes=size)) == [ALL[-1][0]]
    assert len(list(read_events(path, tail_bytes=10**6))) == len(ALL)


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(SolverError, match=r"gone.jsonl: cannot read the events: No such file"):
        read_events(tmp_path / "gone.jsonl")
    path = tmp_path / "log.jsonl"
    path.write_text('{"event": "final", "iteration": 3, "time": 1.0}\n')
    with pytest.raises(SolverError, match=r"log.jsonl: final event with a bad or missing field \('loss'\)"):
        list(read_events(path))


def test_output_of_a_test() -> None:
    event = events.TestEvent(4, 1.0, 0, None, {"accuracy": 0.5, "v": [1.0, 2.0]})
    assert event.output("accuracy") == 0.5
    with pytest.raises(SolverError, match="iteration 4: no output v of one number; outputs: accuracy, v"):
        event.output("v")


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("train", {"loss": [1.0]}),
        ("train", {"loss": None}),
        ("train", {"outputs": 3}),
        ("train", {"outputs": {"a": {"b": 1}}}),
        ("test", {"iteration": 1.5}),
        ("test", {"net": "x"}),
        ("snapshot", {"model": 3}),
        ("done", {"time": True}),
    ],
)
def test_a_field_of_another_type_is_named(tmp_path: Path, kind: str, change: dict[str, object]) -> None:
    path = tmp_path / "log.jsonl"
    record = next(record for _, record, _ in ALL if record["event"] == kind)
    path.write_text(json.dumps({**record, **change}) + "\n")
    with pytest.raises(SolverError, match=rf"log.jsonl: {kind} event with a bad or missing field"):
        list(read_events(path))


def test_lines_that_are_no_events_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"event": {}}\n{"event": []}\n' + "[" * 100_000 + "\n" + "9" * 5000 + "\n")
    assert list(read_events(path)) == []
