"""One network is trained from its folder, in a process of its own."""

import json
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from caffe_compat import random
from caffe_compat.proto import read_caffemodel
from reproduce.databases import write_databases
from reproduce.images import ArrayImages
from reproduce.network import Network
from reproduce.results import read_result
from reproduce.run_folder import PROTOTXT, RunSettings, write_run_folder
from reproduce.train_one import main
from reproduce.treatments import base_half, transfer

ROOT = Path(__file__).parent.parent.parent
ITERATIONS = 3
LENGTHS = {"photos": 3000, "glyphs": 700}  # iterations of the nets in prototxt/miniature


def train(folder: Path) -> str:
    command = [sys.executable, str(ROOT / "reproduce" / "train_one.py"), str(folder)]
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=folder.parent).stderr


def small_run(
    networks: list[Network],
    out: Path,
    nets: str = "photos",
    images: int = 24,
    iterations: int = ITERATIONS,
    *,
    same_crops: bool = False,
) -> None:
    """Databases and folders of networks that train for a few iterations on images of noise."""
    rng = np.random.default_rng(0)
    labels = np.arange(images) % 4
    pixels = {part: rng.integers(0, 256, (images, 3, 32, 32), np.uint8) for part in ("train", "valid")}
    drawn = ArrayImages(list("abcd"), pixels, {"train": labels, "valid": labels})
    tests = write_databases(drawn, networks, out / "data", lambda text: None)
    settings = RunSettings(
        PROTOTXT / "miniature" / nets,
        outputs=4,
        scale=iterations / LENGTHS[nets],
        seed=1,
        same_crops=same_crops,
        test_images=tuple(tests.items()),
        solver_mode="CPU",
    )
    for network in networks:
        write_run_folder(network, settings, out)


@pytest.mark.slow
def test_a_base_then_what_starts_from_it(tmp_path: Path) -> None:
    base, frozen = base_half("0", "A"), transfer("0", "A", "A", 7)
    small_run([base, frozen], tmp_path)
    for network in (base, frozen):
        folder = tmp_path / network.name
        (folder / "failed").write_text("an earlier reason")
        train(folder)
        snapshots = sorted(path.name for path in folder.glob("*_iter_*"))
        assert {name.split("_iter_")[1].split(".")[0] for name in snapshots} == {str(ITERATIONS)}  # the last only
        kinds = [json.loads(line)["event"] for line in (folder / "train.jsonl").read_text().splitlines()]
        assert (kinds[0], kinds[-1]) == ("start", "done")
        assert not (folder / "failed").exists()
        assert 0 <= read_result(network, tmp_path).accuracy <= 1
        log = (folder / "train.log").read_bytes()
        train(folder)
        assert (folder / "train.log").read_bytes() == log  # done: nothing is trained again


def test_fast_mode_looks_up_what_frozen_layers_make_of_an_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And ends with the weights of the layer-by-layer mode, up to rounding."""
    base, frozen = base_half("0", "A"), transfer("0", "A", "A", 6)
    learned = {}
    for option in ("", "--fast"):
        out = tmp_path / f"run{option}"
        small_run([base, frozen], out, "glyphs", images=8, iterations=7)
        for network in (base, frozen):
            monkeypatch.chdir(tmp_path)  # and put back what training changes
            monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
            with random.scope():
                assert main([str(out / network.name), *filter(None, [option])]) == 0
        layers = read_caffemodel(out / frozen.name / "caffe_train_iter_7.caffemodel")
        learned[option] = {layer.name: [np.array(blob) for blob in layer.blobs] for layer in layers}
        log = (out / frozen.name / "train.log").read_text()
        assert ("train.prototxt: 100 images and windows: what conv1 to relu6 make of them" in log) == bool(option)
        assert ("val.prototxt: 4 images and windows: what conv1 to relu6 make of them" in log) == bool(option)
    plain, fast = learned.values()
    assert plain.keys() == fast.keys()
    for name, blobs in plain.items():  # the frozen ones are there, too
        for ours, expected in zip(fast[name], blobs, strict=True):
            assert np.allclose(ours, expected, rtol=1e-3, atol=1e-5), name


def test_why_it_failed_stays_in_the_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """For the networks that a cluster's queue trains, too."""
    (tmp_path / "half0A").mkdir()
    monkeypatch.chdir(tmp_path)  # and put back what training changes
    assert main(["half0A"]) == 2
    said = capsys.readouterr().err.removeprefix("train_one: ").strip()
    assert "solver.prototxt: cannot be read" in said
    assert said in (tmp_path / "half0A" / "failed").read_text()
