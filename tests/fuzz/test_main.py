"""A fault is found, made small, saved, and shown again; every reader takes its own seeds."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.__main__ import main, make_seeds
from tests.fuzz.readers import READERS
from tests.fuzz.worker import Worker

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.xdist_group("fuzz")


@pytest.mark.parametrize("name", [name for name, reader in READERS.items() if reader.fuzzed])
def test_seeds_are_good(name: str, tmp_path: Path) -> None:
    reader = READERS[name]
    seeds = make_seeds(reader, tmp_path)
    worker = Worker(reader, tmp_path)
    endings = [worker.run(seed, timeout_s=60).kind for seed in seeds]
    worker.close()
    assert "read" in endings
    assert set(endings) <= {"read", "refused"}  # golden cases have files that Caffe refuses, too


def test_a_fault_is_saved_and_shown_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tests.fuzz.__main__.OUT", tmp_path)
    assert main(["--seconds", "2", "--seed", "3", "--readers", "failing"]) == 1
    assert "failing: exception at ?: \"KeyError: 'x'\"" in capsys.readouterr().out
    (path,) = tmp_path.iterdir()
    assert path.name.startswith("failing-exception-")
    assert path.read_bytes() == b"raise"
    assert main(["--replay", str(path)]) == 1
    assert "KeyError: 'x'" in capsys.readouterr().out
    assert main(["--seconds", "1", "--seed", "3", "--readers", "log"]) == 0


@pytest.mark.slow
def test_a_quarter_of_a_minute_of_every_reader() -> None:
    """The share of ``make fuzz`` that every run of the tests has: the first inputs of one seed."""
    command = [sys.executable, "-m", "tests.fuzz", "--seconds", "15", "--inputs", "500", "--seed", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("fuzz: 0 faults; seed 1\n")
