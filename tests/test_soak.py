"""What `make soak` finds, and the share of it that every run of the tests has."""

import subprocess
import sys
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from tests.soak import Reading, digest, grown, soak

STEADY = Reading(memory_bytes=100 << 20, files=6, threads=3, objects=1000)


def test_growth_counts_from_the_second_third_on() -> None:
    noise = [replace(STEADY, memory_bytes=STEADY.memory_bytes + (i % 3 << 20), objects=1000 + i % 7) for i in range(30)]
    assert grown(noise) == []
    warm = [replace(STEADY, memory_bytes=i << 20, objects=i) for i in range(10)]
    assert grown(warm + [STEADY] * 20) == []
    more = [replace(STEADY, memory_bytes=STEADY.memory_bytes + (i << 20)) for i in range(30)]
    assert grown(more) == ["memory grew from 124780544 to 135266304"]
    more = [replace(STEADY, files=6 + i // 20, threads=3 + i // 21, objects=1000 + 6 * i) for i in range(30)]
    assert grown(more) == ["files grew from 6 to 7", "threads grew from 3 to 4", "objects grew from 1114 to 1174"]


def test_a_leak_and_another_value_are_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    left_open = []

    def leak() -> str:
        left_open.append((tmp_path / "file").open("w"))
        return ""

    (found,) = soak({"leak": leak}, seconds=0, rounds=9)
    assert found.startswith("files grew from ")
    for file in left_open:
        file.close()
    numbers = count()
    wrong = soak({"same": str, "other": lambda: digest(str(next(numbers) // 2))}, seconds=0, rounds=9)
    assert wrong == ["round 3: other: other values than in the first round"]
    assert soak({"same": str}, seconds=0, rounds=5) == [
        "only 5 rounds; 6 are needed to see growth: give more --seconds"
    ]
    assert "5 rounds: " in capsys.readouterr().out


@pytest.mark.slow
def test_nine_rounds() -> None:
    command = [sys.executable, "-m", "tests.soak", "--rounds", "9"]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("soak: nothing grew, and every round had the values of the first\n")
