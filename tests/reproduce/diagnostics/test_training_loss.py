"""The training loss at the end of a log."""

import json
from pathlib import Path

import pytest

from reproduce.diagnostics.training_loss import final_training_loss
from reproduce.treatments import base_half


def write(folder: Path, shown: list[tuple[int, float]], last: int) -> None:
    events: list[dict[str, object]] = [
        {"event": "train", "iteration": i, "time": 1.0, "loss": loss, "iterations_per_s": 1.0, "outputs": {}}
        for i, loss in shown
    ]
    events.append({"event": "done", "iteration": last, "time": 2.0})
    folder.mkdir()
    (folder / "train.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))


def test_the_displays_of_the_last_tenth_count(tmp_path: Path) -> None:
    # 900 comes twice, as after a kill: the later one counts
    write(tmp_path / "half0A", [(0, 9.0), (880, 7.0), (900, 5.0), (900, 1.0), (940, 2.0), (980, 4.5)], 1000)
    assert final_training_loss(base_half("0", "A"), tmp_path) == pytest.approx((1.0 + 2.0 + 4.5) / 3)


def test_a_log_that_shows_none(tmp_path: Path) -> None:
    write(tmp_path / "half0A", [(0, 9.0)], 1000)
    assert final_training_loss(base_half("0", "A"), tmp_path) is None
