"""What a run would do is printed, and nothing is written to its folder."""

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from rich.console import Console

from caffe_compat.data.lmdb import LMDBReader
from reproduce.dry_run import show_plan
from reproduce.measure import Timing
from reproduce.mode import Mode
from reproduce.options import Options
from tests.reproduce.test_cost import CONV1, IMAGES, PRODUCTS


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Each network takes a second a step and two a batch of a test; the networks that were measured."""
    names = []

    def measure(folders: Sequence[Path], device: str, mode: Mode) -> list[Timing]:
        names.append([folder.name for folder in folders])
        assert all((folder.parent / "data" / "half0A_train_lmdb" / "data.mdb").is_file() for folder in folders)
        return [Timing(1.0, 2.0)] * len(folders)

    monkeypatch.setattr("reproduce.measure.measure", measure)
    return names


def said_of(data: str, layers: tuple[int, ...] | None, capsys: pytest.CaptureFixture[str]) -> list[str]:
    show_plan(Options(data=data, layers=layers, devices=("cuda:998",)), Console(soft_wrap=True))
    return capsys.readouterr().out.splitlines()


def test_the_cost_of_the_default_plan(capsys: pytest.CaptureFixture[str]) -> None:
    said = said_of("glyphs", None, capsys)
    assert "65 networks, 7.37 TFLOP of training and 3.63 of tests" in said
    assert said[-2].startswith(
        "hours: not measured, as this machine has no such device; --devices cuda:998: there is no"
    )


def test_the_cost_of_the_papers_networks_by_hand(capsys: pytest.CaptureFixture[str]) -> None:
    """Two bases and four fine-tuned networks pay for everything; four frozen ones and random features for fc8 alone."""
    whole, frozen = 2 * (3 * sum(PRODUCTS) - CONV1) * IMAGES, 2 * (sum(PRODUCTS[:7]) + 2 * PRODUCTS[7]) * IMAGES
    tests = 11 * 2 * sum(PRODUCTS) * 451 * 50000
    training = f"{(6 * whole + 5 * frozen) / 1e12:.2f}"
    assert f"11 networks, {training} TFLOP of training and {tests / 1e12:.2f} of tests" in said_of(
        "imagenet:x", (7,), capsys
    )


def test_cuts_of_another_net_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    options = Options(model="regnet_y_400mf", layers=("stem", 3), treatments=("AnB",), devices=("cuda:998",))
    show_plan(options, Console(soft_wrap=True))
    said = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert said[0][-2:] == ["cut", "behind"]
    cuts = {words[1]: words[-1] for words in said[1:7]}
    assert cuts["transfer0A0B_1_1"] == "stem"
    assert cuts["transfer0B0A_1_3"] == "trunk_output.block2"
    assert said[7][:2] == ["6", "networks,"]


def test_the_table_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    options = Options(data="imagenet:x", treatments=("base", "AnB+"), layers=(7,), devices=("cuda:998",), json=True)
    show_plan(options, Console(soft_wrap=True))
    said = json.loads(capsys.readouterr().out)
    training = 2 * (3 * sum(PRODUCTS) - CONV1) * IMAGES
    rest = {"training_flop": training, "tests_flop": 2 * sum(PRODUCTS) * 451 * 50000}
    base = {"network": "half0A", "treatment": "base", "starts_from": None, "trained_on": "half0A", **rest}
    assert said["networks"][0] == base
    assert said["networks"][2]["starts_from"] == "half0A"
    assert [network["network"] for network in said["networks"][:2]] == ["half0A", "half0B"]
    assert [note.partition(":")[0] for note in said["notes"]] == ["hours", "disk"]


def test_hours_and_disk(tmp_path: Path, capsys: pytest.CaptureFixture[str], measured: list[list[str]]) -> None:
    for c in range(4):
        for i in range(6):
            file = tmp_path / f"class{c}" / f"{i}.png"
            file.parent.mkdir(exist_ok=True)
            cv2.imwrite(str(file), np.zeros((32, 32, 3), np.uint8))
    options = Options(data=f"folder:{tmp_path}", treatments=("base", "BnB"), layers=(7,), jobs=2, iters=60)
    show_plan(options, Console(soft_wrap=True))
    said = capsys.readouterr().out.splitlines()
    assert measured == [["half0A", "transfer0A0A_1_7"]]
    # Each iteration takes as long as its operations against base's, which are a second.
    assert said[-2].startswith("hours: about 0.")
    assert said[-2].endswith("transfer0A0A_1_7 1e+03 ms an iteration, 2e+03 ms a batch of a test)")
    records = {"train": 4 * 5, "valid": 4 * 1}  # of the whole set; each half has half of it
    assert f"disk: about {sum(records.values()) * 4096 / 1e9:.3g} GB of databases" in said[-1]
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"class{c}" for c in range(4)]


def test_in_fast_mode_on_a_cpu_each_cost_is_measured(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A base takes 2 s a step, frozen layers 1 s and a table of 500 s; on the glyphs, 700 steps and no test counted."""
    names: list[str] = []

    def measure(folders: Sequence[Path], device: str, mode: Mode) -> list[Timing]:
        names.extend(folder.name for folder in folders)
        assert len(LMDBReader(folders[0].parent / "data" / "half0A_train_lmdb")) == 186
        return [Timing(2.0, 0.0), *[Timing(1.0, 0.0, 500.0)] * (len(folders) - 1)]

    monkeypatch.setattr("reproduce.measure.measure", measure)
    options = Options(treatments=("base", "BnB", "AnB", "BnB+"), layers=(1, 4, 7), fast=True, jobs=1)
    show_plan(options, Console(soft_wrap=True))
    assert names == ["half0A", "transfer0A0A_1_1", "transfer0A0A_1_4", "transfer0A0A_1_7"]
    hours = (8 * 1400 + 12 * (700 + 500)) / 3600
    assert f"hours: about {hours:.2g} on cpu, 1 at a time" in capsys.readouterr().out


def test_images_that_are_not_there_leave_the_databases_open(
    capsys: pytest.CaptureFixture[str], measured: list[list[str]]
) -> None:
    options = Options(data="folder:/nowhere", treatments=("base",), seeds=2)
    show_plan(options, Console(soft_wrap=True))
    said = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in said[1:5]] == ["half0A", "half0B", "half0A-seed1", "half0B-seed1"]
    assert "databases not known (/nowhere: no such folder" in said[-1]
