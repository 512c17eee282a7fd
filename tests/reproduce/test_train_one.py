"""One network is trained from its folder, in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from reproduce.databases import write_databases
from reproduce.images import ArrayImages
from reproduce.results import read_result
from reproduce.run_folder import PROTOTXT, RunSettings, write_run_folder
from reproduce.treatments import base_half, transfer

ROOT = Path(__file__).parent.parent.parent
ITERATIONS = 3


def train(folder: Path) -> str:
    command = [sys.executable, str(ROOT / "reproduce" / "train_one.py"), str(folder)]
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=folder.parent).stderr


@pytest.mark.slow
def test_a_base_then_what_starts_from_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(24) % 4
    pixels = {part: rng.integers(0, 256, (24, 3, 32, 32), np.uint8) for part in ("train", "valid")}
    images = ArrayImages(list("abcd"), pixels, {"train": labels, "valid": labels})
    base, frozen = base_half("0", "A"), transfer("0", "A", "A", 7)
    tests = write_databases(images, [base, frozen], tmp_path / "data", lambda text: None)
    settings = RunSettings(
        PROTOTXT / "miniature" / "photos",
        outputs=4,
        scale=ITERATIONS / 3000,
        seed=1,
        test_images=tuple(tests.items()),
        solver_mode="CPU",
    )
    for network in (base, frozen):
        folder = write_run_folder(network, settings, tmp_path)
        train(folder)
        snapshots = sorted(path.name for path in folder.glob("*_iter_*"))
        assert {name.split("_iter_")[1].split(".")[0] for name in snapshots} == {str(ITERATIONS)}  # the last only
        kinds = [json.loads(line)["event"] for line in (folder / "train.jsonl").read_text().splitlines()]
        assert (kinds[0], kinds[-1]) == ("start", "done")
        assert 0 <= read_result(network, tmp_path).accuracy <= 1
        log = (folder / "train.log").read_bytes()
        train(folder)
        assert (folder / "train.log").read_bytes() == log  # done: nothing is trained again
