"""Networks of one process: each ends with the bits that it has alone, and fails alone."""

import os
import re
import warnings
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from caffe_compat import Net, random
from caffe_compat.proto import read_caffemodel
from reproduce.mode import Mode
from reproduce.network import Network
from reproduce.runners import FAULT, LEFT, TRAINED, WRONG_INPUT
from reproduce.side_by_side import train_in_turns
from reproduce.train_one import attempt
from reproduce.treatments import base_half, transfer
from tests.reproduce.test_train_one import small_run

BASE = base_half("0", "B")
GROUP = [transfer("0", "B", "B", 2), transfer("0", "B", "B", 6), transfer("0", "B", "B", 2, fine_tuned=True)]


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """What training a network changes in the process is put back."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    with random.scope():
        yield


def prepare(out: Path, iterations: int = 6) -> None:
    small_run([BASE, *GROUP], out, images=24, iterations=iterations, same_crops=True)
    assert attempt([out / BASE.name], "cpu", Mode())[0].code == TRAINED


def learned(out: Path, network: Network) -> bytes:
    (file,) = (out / network.name).glob("*.caffemodel")
    return file.read_bytes()


def losses(out: Path, network: Network) -> list[str]:
    return re.findall(r"loss = [\d.]+|accuracy = [\d.]+", (out / network.name / "train.log").read_text())


@pytest.mark.parametrize("fast", [False, True])
def test_the_same_bits_as_alone(tmp_path: Path, fast: bool) -> None:
    """In pieces, too: left after a snapshot, and taken up in other company."""
    apart, together = tmp_path / "apart", tmp_path / "together"
    prepare(apart)
    prepare(together)
    mode = Mode(fast=fast)
    for network in GROUP:
        assert attempt([apart / network.name], "cpu", mode)[0].code == TRAINED
    asked = iter([False] * 8 + [True] * 3)
    folders = [together / network.name for network in GROUP]
    codes = [outcome.code for outcome in attempt(folders, "cpu", mode, asked_to_leave=lambda: next(asked))]
    assert codes == [LEFT] * 3
    assert [outcome.code for outcome in attempt(folders[:1], "cpu", mode)] == [TRAINED]
    assert [outcome.code for outcome in attempt(folders, "cpu", mode)] == [TRAINED] * 3
    for network in GROUP:
        assert learned(together, network) == learned(apart, network)
        assert losses(together, network)[-4:] == losses(apart, network)[-4:]
    said = (folders[1] / "train.log").read_text()
    assert ("train.prototxt: conv1 to relu6 are computed once for all networks of this process") in said


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_same_numbers_as_alone_on_a_gpu(tmp_path: Path) -> None:
    """With CUDA graphs, recorded from random streams that are exchanged."""
    apart, together = tmp_path / "apart", tmp_path / "together"
    mode, iterations = Mode(fast=True), 12
    for out in (apart, together):
        prepare(out, iterations)
    for network in GROUP:
        assert attempt([apart / network.name], "cuda:0", mode)[0].code == TRAINED
    assert [one.code for one in attempt([together / network.name for network in GROUP], "cuda:0", mode)] == [
        TRAINED
    ] * 3
    for network in GROUP:
        name = f"{network.name}/caffe_train_iter_{iterations}.caffemodel"
        for ours, alone in zip(read_caffemodel(together / name), read_caffemodel(apart / name), strict=True):
            for a, b in zip(ours.blobs, alone.blobs, strict=True):
                np.testing.assert_allclose(np.array(a), np.array(b), rtol=1e-3, atol=1e-5)


def test_one_that_fails_ends_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(tmp_path)
    (tmp_path / GROUP[0].name / "solver.prototxt").write_text("base_lr: what")
    broken, as_ever, batches = GROUP[1], Net.next_batch, list[Net]()

    def next_batch(net: Net) -> dict[str, Tensor]:
        if Path.cwd().name == broken.name:
            batches.append(net)
            if len(batches) == 3:
                raise RuntimeError("as it trains")
        return as_ever(net)

    monkeypatch.setattr(Net, "next_batch", next_batch)
    outcomes = attempt([tmp_path / network.name for network in GROUP], "cpu", Mode())
    assert [outcome.code for outcome in outcomes] == [WRONG_INPUT, FAULT, TRAINED]
    assert "solver.prototxt" in outcomes[0].why
    assert outcomes[1].why.startswith(f"{broken.name}: ended by an error of the program")
    assert (tmp_path / GROUP[2].name / "done").exists()


def test_folder_and_warnings_are_each_ones_own(tmp_path: Path) -> None:
    here, shown = Path.cwd(), list[tuple[str, str]]()

    def training(name: str, turns: int) -> Generator[int, None, None]:
        folder = tmp_path / name
        folder.mkdir()
        os.chdir(folder)
        warnings.showwarning = lambda message, *_, **__: shown.append((name, str(message)))
        for number in range(turns):
            yield number
            assert Path.cwd() == folder
            warnings.warn(f"{number}", stacklevel=1)

    over: list[tuple[int, Exception | None]] = []
    before = warnings.showwarning
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        train_in_turns([training("a", 1), training("b", 2)], "cpu", lambda *said: over.append(said))
    assert shown == [("a", "0"), ("b", "0"), ("b", "1")]
    assert over == [(0, None), (1, None)]
    assert Path.cwd() == here
    assert warnings.showwarning is before


def test_those_behind_go_on_alone_until_they_stand_where_the_others_do() -> None:
    """As after a resume; a test's batches are turns at one iteration."""
    took = list[tuple[str, int]]()

    def training(name: str, iterations: Sequence[int]) -> Generator[int, None, None]:
        for iteration in iterations:
            took.append((name, iteration))
            yield iteration

    train_in_turns([training("a", [4, 5, 5, 6]), training("b", [1, 2, 4, 5, 5, 6])], "cpu", lambda *_: None)
    first = [("a", 4), ("b", 1), ("b", 2), ("b", 4)]
    assert took == [*first, *((name, iteration) for iteration in (5, 5, 6) for name in "ab")]
