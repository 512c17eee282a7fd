"""The command is found as an entry point, and hands its options on."""

from pathlib import Path

import pytest

from caffe_compat.cli import commands, main
from reproduce.imagenet.prepare import Preparation


def test_the_command_is_listed() -> None:
    assert commands()["prepare_imagenet"] == "Make the LMDBs, subsets and mean files of the paper from ILSVRC 2012."


@pytest.mark.parametrize("equal", [True, False])
def test_options_reach_the_function(monkeypatch: pytest.MonkeyPatch, equal: bool) -> None:
    jobs = []

    def prepare(job: Preparation, *, only_estimate: bool) -> bool:
        jobs.append((job, only_estimate))
        return equal

    monkeypatch.setattr("reproduce.imagenet.prepare.prepare_imagenet", prepare)
    words = "--root=r --out=o --size=64 --encode_type=jpg --seed=3 --separate --no_means --val_list=v --threads=2"
    assert main(["prepare_imagenet", *words.split(), "--estimate"]) == (0 if equal else 1)
    job = Preparation(
        root=Path("r"),
        out=Path("o"),
        size_px=64,
        encode_type="jpg",
        seed=3,
        separate=True,
        means=False,
        val_list=Path("v"),
        threads=2,
    )
    assert jobs == [(job, True)]
