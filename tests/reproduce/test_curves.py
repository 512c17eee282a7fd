"""A network's course, from its log."""

import json
from pathlib import Path

from reproduce.curves import course_of, thinned
from reproduce.results import read_log
from reproduce.treatments import base_half

NETWORK = base_half("0", "A")


def write_log(out: Path, events: list[dict[str, object]]) -> None:
    (out / NETWORK.name).mkdir()
    text = "".join(json.dumps(event) + "\n" for event in events)
    (out / NETWORK.name / "train.jsonl").write_text(text)


def test_a_restarted_run_is_one_course(tmp_path: Path) -> None:
    shown = {"event": "train", "iterations_per_s": 1.0, "outputs": {}}
    tested = {"event": "test", "net": 0, "loss": None}
    events = [
        {"event": "start", "iteration": 0, "time": 100.5},
        {**tested, "iteration": 0, "time": 101.0, "outputs": {"accuracy": 0.1, "loss": 4.5}},
        {**shown, "iteration": 0, "time": 102.0, "loss": 4.0},
        {**shown, "iteration": 20, "time": 103.0, "loss": 9.0},  # after the last snapshot; comes again
        {"event": "start", "iteration": 10, "time": 200.0},
        {**shown, "iteration": 20, "time": 201.0, "loss": 2.0},
        {**tested, "iteration": 30, "time": 202.0, "outputs": {"accuracy": 0.6, "loss": 1.5}},
    ]
    write_log(tmp_path, events)
    course = course_of(NETWORK, read_log(NETWORK, tmp_path))
    assert course.loss == [(0, 4.0), (20, 2.0)]
    assert course.accuracy == [(0, 0.1), (30, 0.6)]
    assert (course.began_s, course.ended_s) == (100.5, 202.0)


def test_thinning_keeps_the_ends_and_means_of_what_lies_between() -> None:
    curve = [(10 * i, float(i)) for i in range(9)]
    assert thinned(curve, 9) == curve
    # of 1..7 three parts: 1, 2; 3, 4; 5, 6, 7
    assert thinned(curve, 5) == [(0, 0.0), (15, 1.5), (35, 3.5), (60, 6.0), (80, 8.0)]
