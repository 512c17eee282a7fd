"""A line for each network: where it is."""

import io
import json
import os
import platform
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from reproduce.lease import Lease
from reproduce.status import Row, rows_of, show_status, status_json, time_left, watch_status, words
from reproduce.treatments import base_half, transfer
from tests.reproduce.test_publish import put


def test_where_each_network_is(tmp_path: Path) -> None:
    put(base_half("0", "A"), tmp_path, 0.5)
    put(base_half("0", "B"), tmp_path, failed="2026-11-26 half0B: no space left")
    for base, target in (("A", "A"), ("A", "B"), ("B", "A")):
        put(transfer("0", base, target, 1), tmp_path)
    display = {"event": "train", "iteration": 20, "time": 1.0, "loss": 1.5, "iterations_per_s": 9.0, "outputs": {}}
    (tmp_path / "transfer0A0B_1_1" / "train.jsonl").write_text(json.dumps(display) + "\n")
    stream = io.StringIO()
    with Lease(tmp_path / "transfer0A0B_1_1"):
        show_status(tmp_path, Console(file=stream, soft_wrap=True))
    assert [line.split(maxsplit=2) for line in stream.getvalue().splitlines()] == [
        ["half0A", "done", "accuracy 0.500"],
        ["half0B", "failed", "2026-11-26 half0B: no space left"],
        ["transfer0A0A_1_1", "ready", "0 of 40"],
        ["transfer0A0B_1_1", "training", f"iteration 20, loss 1.500, of 40 ({platform.node()}, process {os.getpid()})"],
        ["transfer0B0A_1_1", "waiting", "waits for half0B"],
        [f"{tmp_path}:", "5", "networks: 1 done, 1 training, 1 failed, 1 ready, 1 waiting"],
    ]


def test_the_list_as_json(tmp_path: Path) -> None:
    put(base_half("0", "A"), tmp_path, 0.5)
    put(base_half("0", "B"), tmp_path, failed="no space left")
    rest = {"worker": "", "iterations": 40, "left_s": None}
    assert json.loads(status_json(tmp_path)) == {
        "folder": str(tmp_path),
        "networks": [
            {"name": "half0A", "state": "done", "details": "accuracy 0.500", "iteration": 40, **rest},
            {"name": "half0B", "state": "failed", "details": "no space left", "iteration": 0, **rest},
        ],
    }


def put_course(folder: Path, displays: list[tuple[float, int, float]], *, starts: tuple[float, ...] = (0.0,)) -> None:
    """Displays (time, iteration, loss) of processes that began at ``starts``."""
    events: list[dict[str, Any]] = [{"event": "start", "iteration": 0, "time": start} for start in starts]
    events += [
        {"event": "train", "iteration": i, "time": t, "loss": loss, "iterations_per_s": 1.0, "outputs": {}}
        for t, i, loss in displays
    ]
    events.sort(key=lambda event: event["time"])
    (folder / "train.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))


def test_time_left_and_curve_of_the_newest_process(tmp_path: Path) -> None:
    """40 iterations; killed at 20, continued from 10 at half a second an iteration."""
    network = base_half("0", "A")
    put(network, tmp_path)
    displays = [(1.0, 0, 4.0), (2.0, 10, 3.0), (3.0, 20, 2.5), (100.0, 10, 3.0), (110.0, 30, 2.0)]
    put_course(tmp_path / "half0A", displays, starts=(0.0, 99.0))
    with Lease(tmp_path / "half0A"):
        (row,) = rows_of(tmp_path, curves=True)
    assert row.curve == ((0, 4.0), (10, 3.0), (20, 2.5), (30, 2.0))
    assert (row.iteration, row.iterations, row.left_s) == (30, 40, 5.0)
    (row,) = rows_of(tmp_path)
    assert (row.state, row.left_s, row.worker) == ("ready", None, "")


def test_time_left_of_all() -> None:
    """Two train, 1 and 3 s an iteration; 40 iterations wait: (10 + 30 + 40 * 2) / 2, but no less than the longest."""
    one = Row("a", "training", "", "", 30, 40, (), 10.0, iteration_s=1.0)
    two = Row("b", "training", "", "", 30, 40, (), 30.0, iteration_s=3.0)
    waits = Row("c", "waiting", "", "", 0, 40)
    assert time_left([one, two, waits]) == "about 60 s left with 2 at a time"
    assert time_left([one, two]) == "about 30 s left with 2 at a time"
    assert time_left([waits]) == ""


def test_networks_that_wait_count_as_those_of_their_kind() -> None:
    """A base trains, 4 s an iteration; those with 2 and 7 frozen layers are done, 2 and 1 s an iteration."""
    base = Row("base", "training", "", "", 30, 40, (), 40.0, (False, 0), 4.0)
    done = [Row(f"f{n}", "done", "", "", 40, 40, (), None, (True, n), s) for n, s in ((2, 1.5), (2, 2.5), (7, 1.0))]
    waits = [Row("w", "waiting", "", "", 0, 40, (), None, kind) for kind in ((False, 0), (True, 2), (True, 6))]
    said = time_left([base, *done, *waits])
    assert said == f"about {words(40 + 40 * 4 + 40 * 2 + 40 * 1)} left with 1 at a time"
    assert time_left([base, waits[1]]) == f"about {words(40 + 40 * 4)} left with 1 at a time"  # none else is known


def test_how_fast_each_kind_goes(tmp_path: Path) -> None:
    """``put`` trains 40 iterations; seconds are those of the log."""
    for network in (base_half("0", "A"), transfer("0", "A", "B", 3)):
        put(network, tmp_path, 0.5)
    outputs = {"accuracy": 0.5, "loss": 1.0}
    log = tmp_path / "transfer0A0B_1_3" / "train.jsonl"
    for seconds in (0.0, 100.0):
        event = {"event": "test", "iteration": 0, "time": seconds, "net": 0, "loss": None, "outputs": outputs}
        log.write_text((log.read_text() if seconds else "") + json.dumps(event) + "\n")
    log.write_text(json.dumps({"event": "start", "iteration": 0, "time": 0.0}) + "\n" + log.read_text())
    rows = {row.name: row for row in rows_of(tmp_path)}
    assert (rows["transfer0A0B_1_3"].kind, rows["transfer0A0B_1_3"].iteration_s) == ((True, 3), 2.5)
    assert rows["half0A"].kind == (False, 0)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (89, "89 s"), (90, "1.5 min"), (3600, "60 min"), (5400, "1.5 h"), (36000, "10 h"), (1e6, "12 days")],
)
def test_a_duration_in_words(seconds: float, text: str) -> None:
    assert words(seconds) == text


def test_watching_ends_when_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(base_half("0", "A"), tmp_path, 0.5)
    put(base_half("0", "B"), tmp_path)
    waits: list[float] = []

    def finish(seconds: float) -> None:
        waits.append(seconds)
        (tmp_path / "half0B" / "failed").write_text("no space left")

    monkeypatch.setattr(time, "sleep", finish)
    stream = io.StringIO()
    watch_status(tmp_path, Console(file=stream, force_terminal=True, width=300, height=20, color_system=None))
    assert waits == [2.0]
    assert "2 networks: 1 done, 1 ready" in stream.getvalue()
    assert "2 networks: 1 done, 1 failed" in stream.getvalue()
