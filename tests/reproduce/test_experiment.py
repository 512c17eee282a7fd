"""The main job's parts that need no training."""

import fcntl
import json
from pathlib import Path

import pytest
from rich.console import Console

from caffe_compat.errors import DataError
from reproduce.experiment import chosen_networks, run, show_plan
from reproduce.options import Options


def test_a_name_that_is_none_is_refused() -> None:
    cases = {
        Options(split="9"): "--split 9: there is no such split",
        Options(treatments=("base", "XnX")): "--treatments XnX: there is no such treatment; choose from base, BnB",
        Options(layers=(0,)): "--layers 0: expected numbers from 1 to 7",
        Options(data="folder"): "--data folder: says no path",
    }
    for options, message in cases.items():
        with pytest.raises(DataError, match=message):
            chosen_networks(options)


@pytest.mark.parametrize(
    ("data", "total"), [("glyphs", "7.37"), ("fashion-mnist", "10.33"), ("imagenet:x", "22823133.62")]
)
def test_the_cost_of_a_plan(data: str, total: str, capsys: pytest.CaptureFixture[str]) -> None:
    show_plan(Options(data=data), Console(soft_wrap=True))
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith(f"65 networks, {total} TFLOP")


def test_a_run_is_continued_only_with_the_same_settings(tmp_path: Path) -> None:
    settings = Options(data="folder:/nowhere", seed=1, out=tmp_path)
    with pytest.raises(DataError, match="/nowhere: no such folder"):
        run(settings, Console(quiet=True))
    assert json.loads((tmp_path / "settings.json").read_text()) == settings.settings_that_decide()
    with pytest.raises(DataError, match="was begun with --fast False, not True"):
        run(Options(data="folder:/nowhere", seed=1, out=tmp_path, fast=True), Console(quiet=True))


def test_starting_anew_removes_what_a_run_left_and_nothing_else(tmp_path: Path) -> None:
    for name in ("half0A", "reduced-0001", "data", "figures", "mine"):
        (tmp_path / name).mkdir()
    (tmp_path / "settings.json").write_text("{}")
    with pytest.raises(DataError, match="/nowhere: no such folder"):
        run(Options(data="folder:/nowhere", out=tmp_path, resume=False), Console(quiet=True))
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "mine", "settings.json"]


def test_two_runs_never_share_a_folder(tmp_path: Path) -> None:
    with (tmp_path / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(DataError, match="another run works in this folder"):
            run(Options(out=tmp_path), Console(quiet=True))
