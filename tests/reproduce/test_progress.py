"""What is said of a run while it trains."""

import io
import json
import time
from pathlib import Path

import pytest
from rich.console import Console

from reproduce.progress import Progress
from reproduce.treatments import base_half, transfer

NETWORKS = [base_half("0", half) for half in "AB"]


def write_display(out: Path, iteration: int, loss: float, end: str) -> None:
    folder = out / "half0A"
    folder.mkdir(exist_ok=True)
    event = {
        "event": "train",
        "iteration": iteration,
        "time": 1.0,
        "loss": loss,
        "iterations_per_s": 9.0,
        "outputs": {},
    }
    with (folder / "train.jsonl").open("a") as file:
        file.write(json.dumps(event) + end)


def test_plain_lines_without_a_terminal(tmp_path: Path) -> None:
    stream = io.StringIO()
    with Progress({NETWORKS[0]: 3.0, NETWORKS[1]: 1.0}, 2, tmp_path, Console(file=stream)) as progress:
        for network in NETWORKS:
            progress.start(network)
        progress.done(NETWORKS[0], 0.625)
        progress.done(NETWORKS[1], 0.5)
    first, second = stream.getvalue().splitlines()
    assert first.startswith("  3/4  half0A                   accuracy 0.625  0 s  about 0 s left")
    assert second.strip() == "4/4  half0B                   accuracy 0.500  0 s"


def test_what_others_do_counts(tmp_path: Path) -> None:
    """A network that another run has trained, and one that is put back."""
    stream = io.StringIO()
    with Progress({NETWORKS[0]: 3.0, NETWORKS[1]: 1.0}, 0, tmp_path, Console(file=stream)) as progress:
        progress.start(NETWORKS[1])
        progress.put_back(NETWORKS[1])
        progress.done(NETWORKS[0], 0.625)
        progress.done(NETWORKS[1], 0.5)
    first, second = stream.getvalue().splitlines()
    assert first.startswith("  1/2  half0A                   accuracy 0.625  elsewhere  about 0 s left")
    assert second.strip() == "2/2  half0B                   accuracy 0.500  elsewhere"


def test_time_left_goes_by_networks_of_the_same_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A base takes 8 s, a frozen network 2 s, one at a time; its operations would say 6 s."""
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    frozen = [transfer("0", base, target, 7) for base, target in ("AA", "AB", "BA")]
    costs = {NETWORKS[0]: 4.0, **dict.fromkeys(frozen, 3.0)}
    stream = io.StringIO()
    with Progress(costs, 0, tmp_path, Console(file=stream, width=200)) as progress:
        for network, seconds in ((NETWORKS[0], 8.0), (frozen[0], 2.0)):
            progress.start(network)
            clock[0] += seconds
            progress.done(network, 0.5)
    first, second = stream.getvalue().splitlines()
    assert first.endswith("8 s  about 18 s left")  # by operations
    assert second.endswith("2 s  about 4 s left")


def test_the_newest_whole_display_is_shown(tmp_path: Path) -> None:
    stream = io.StringIO()
    with Progress(
        {NETWORKS[0]: 1.0}, 0, tmp_path, Console(file=stream, force_terminal=True, width=100, color_system=None)
    ) as progress:
        progress.start(NETWORKS[0])
        progress.poll()
        assert "half0A                   starting" in stream.getvalue()
        write_display(tmp_path, 20, 1.5, "\n")
        write_display(tmp_path, 40, float("0.25"), "\n")
        write_display(tmp_path, 60, 0.125, "")
        (tmp_path / "half0A" / "train.jsonl").write_text((tmp_path / "half0A" / "train.jsonl").read_text()[:-9])
        progress.poll()
    assert "iteration 40, loss 0.250" in stream.getvalue()
    assert "iteration 60" not in stream.getvalue()
