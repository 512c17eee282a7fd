"""What a run notes of itself."""

import shutil
import subprocess
from hashlib import sha256
from pathlib import Path

import pytest

from caffe_compat.errors import DataError
from reproduce import provenance
from reproduce.curves import Course
from reproduce.options import TRAIN, Options, parse
from reproduce.provenance import checksums, command_of, commit, dates, machine, moment, note_call, noted_calls, versions


def test_the_command_asks_for_the_same_again() -> None:
    words = "run_paper.py --split 0,1 --out 'a folder' --layers 1,7 --seeds 6 --fast --no-resume"
    options = Options(split="0,1", out=Path("a folder"), layers=(1, 7), seeds=6, fast=True, resume=False)
    assert command_of(options) == words
    assert (
        parse(["--split", "0,1", "--out", "a folder", "--layers", "1,7", "--seeds", "6", "--fast", "--no-resume"], "")
        == options
    )
    assert command_of(Options(step=TRAIN, devices=("cuda:0", "cuda:1"))) == "run_paper.py train --devices cuda:0,cuda:1"


def test_calls_are_noted_one_after_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert noted_calls(tmp_path) == []
    for now, seed in ((1e9, 1), (1.5e9, 2)):
        monkeypatch.setattr("time.time", lambda now=now: now)
        note_call(Options(out=tmp_path, seed=seed))
    first, second = noted_calls(tmp_path)
    assert (first["date"], second["date"]) == ("2001-09-09 01:46:40 UTC", "2017-07-14 02:40:00 UTC")
    assert first["command"].endswith("--seed 1")
    assert (first["versions"], first["machine"]) == (versions(), machine())
    file = next((tmp_path / "calls").iterdir())
    file.write_text('{"date": 3}')
    with pytest.raises(DataError, match="is not what a call notes"):
        noted_calls(tmp_path)


def test_without_git_no_commit_is_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert commit() == ""


@pytest.mark.skipif(shutil.which("git") is None, reason="no git")
def test_the_commit_is_that_of_the_checkout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A checkout of another project around an installed package is not taken for ours."""
    package = tmp_path / "reproduce"
    package.mkdir()
    monkeypatch.setattr(provenance, "__file__", str(package / "provenance.py"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert commit() == ""
    author = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "-A"], [*author, "commit", "-q", "--allow-empty", "-m", "one"]):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True)
    head = subprocess.run(
        ["git", "-C", str(tmp_path), "rev-parse", "HEAD"], capture_output=True, text=True
    ).stdout.strip()
    assert commit() == head
    (tmp_path / "file").touch()
    subprocess.run(["git", "-C", str(tmp_path), "add", "file"], check=True)
    assert commit() == f"{head}, with changes"
    (package / "deeper").mkdir()
    monkeypatch.setattr(provenance, "__file__", str(package / "deeper" / "provenance.py"))
    assert commit() == ""


def test_dates_go_from_the_first_start_to_the_last_end() -> None:
    courses = [
        Course(network="a", loss=[], accuracy=[], began_s=b, ended_s=e) for b, e in ((60, 90), (0, 0), (30, 180))
    ]
    assert dates(courses) == "1970-01-01 00:00:30 UTC to 1970-01-01 00:03:00 UTC"
    assert dates([]) == ""
    assert [moment(seconds) for seconds in (1e30, float("nan"), float("inf"))] == ["", "", ""]


def test_checksums_of_tables_lists_and_means(tmp_path: Path) -> None:
    (tmp_path / "data" / "lists").mkdir(parents=True)
    (tmp_path / "data" / "whole_train_lmdb").mkdir()
    for name in (
        "results.csv",
        "data/half0A_mean.binaryproto",
        "data/lists/half0A.txt",
        "data/whole_train_lmdb/data.mdb",
    ):
        (tmp_path / name).write_text(name)
    names = ["results.csv", "data/half0A_mean.binaryproto", "data/lists/half0A.txt"]
    found = checksums(tmp_path, ("results.csv", "differences.csv"))
    assert found == {name: sha256(name.encode()).hexdigest() for name in names}
