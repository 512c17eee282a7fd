"""The main job's parts that need no training."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from caffe_compat.errors import CaffeCompatError, DataError
from reproduce.dataset import Prepared
from reproduce.experiment import _prepare_data, chosen_networks, run
from reproduce.lease import Lease
from reproduce.mode import Mode
from reproduce.options import Options
from tests.reproduce.test_learned_layers import TOWERS


def test_a_name_that_is_none_is_refused() -> None:
    cases = {
        Options(split="9"): "--split 9: there is no such split",
        Options(treatments=("base", "XnX")): "--treatments XnX: there is no such treatment; choose from base, BnB",
        Options(layers=(0,)): "--layers 0: expected numbers from 1 to 7",
        Options(data="folder"): "--data folder: says no path",
        Options(encode_type="jpg"): "--data glyphs: has no choice of storage; --encode-type and --separate are for im",
        Options(separate=True): "--data glyphs: has no choice of storage",
    }
    for options, message in cases.items():
        with pytest.raises(DataError, match=message):
            chosen_networks(options)


def test_layers_kept_above_the_cut_must_be_there() -> None:
    networks = chosen_networks(Options(treatments=("AnB", "AnB+2")))
    assert sorted({network.n for network in networks if network.tuned}) == [1, 2, 3, 4, 5]
    assert sorted({network.n for network in networks if network.frozen and not network.tuned}) == [1, 2, 3, 4, 5, 6, 7]
    with pytest.raises(
        DataError, match=r"--treatments AnB\+2: keeps layers above the cut; expected a depth up to 5 in"
    ):
        chosen_networks(Options(treatments=("AnB", "AnB+2"), layers=(6, 7)))


def test_depths_of_another_net_are_its_own(tmp_path: Path) -> None:
    for name, text in (
        ("train", TOWERS),
        ("val", TOWERS),
        ("solver", 'max_iter: 9 test_interval: 3 snapshot_prefix: "x"'),
    ):
        (tmp_path / "base").mkdir(exist_ok=True)
        (tmp_path / "base" / f"{name}.prototxt").write_text(text)
    networks = chosen_networks(Options(prototxt=tmp_path, treatments=("AnB",)))
    assert sorted({network.n for network in networks}) == [0, 1, 2, 3]
    for layer in (4, "middle"):
        with pytest.raises(
            DataError, match=f"--layers {layer}: expected numbers from 1 to 3, or names of first, left, right"
        ):
            chosen_networks(Options(prototxt=tmp_path, layers=(layer,)))
    networks = chosen_networks(Options(prototxt=tmp_path, layers=("right", "first"), treatments=("BnB",)))
    assert sorted({network.n for network in networks}) == [0, 1, 3]


def test_layers_of_ours_have_names_too() -> None:
    networks = chosen_networks(Options(layers=(1, "fc7", "conv4"), treatments=("random",)))
    assert [network.name for network in networks] == ["nolearn_1_1", "nolearn_1_4", "nolearn_1_7"]


def test_a_run_is_continued_only_with_the_same_settings(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    (tmp_path / "data" / "whole_train_lmdb").mkdir(parents=True)
    (tmp_path / "data" / "whole_train_lmdb" / "data.mdb").touch()
    settings = Options(data=f"folder:{images}", seed=1, out=tmp_path)
    with pytest.raises(DataError, match="no class folders here"):
        run(settings, Console(quiet=True))
    noted = json.loads((tmp_path / "settings.json").read_text())
    assert noted.pop("threads") >= 1
    assert noted == settings.settings_that_decide()
    with pytest.raises(DataError, match="was begun with --fast False, not True"):
        run(Options(data=f"folder:{images}", seed=1, out=tmp_path, fast=True), Console(quiet=True))


def test_settings_that_nothing_was_made_with_are_replaced(tmp_path: Path) -> None:
    """A run killed before it had made anything from a mistyped path does not bind its folder."""
    (tmp_path / "settings.json").write_text(json.dumps({**Options(data="folder:/mistyped").settings_that_decide()}))
    with pytest.raises(DataError, match="no class folders here"):
        run(Options(data=f"folder:{made(tmp_path / 'images')}", out=tmp_path), Console(quiet=True))
    assert not (tmp_path / "settings.json").exists()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"data": "imagenet:/nowhere"}, "/nowhere: no such folder; expected ILSVRC12, or what prepare_imagenet made"),
        ({"data": "folder:/nowhere"}, "/nowhere: no such folder; expected one folder of images per class"),
        ({"data": "lmdb:/nowhere,/neither"}, "/nowhere: no such database; make it with convert_imageset"),
        ({"data": "glyphs:/nowhere"}, "--data glyphs:/nowhere: glyphs takes no path; expected --data glyphs"),
        ({"prototxt": Path("/nowhere")}, "/nowhere/base/train.prototxt: cannot be read: No such file or directory"),
        ({"scale": 1e30}, "max_iter would be 7000000.* by --scale or --iters; expected below 2\\^31"),
        ({"devices": ("cuda:998",)}, "--devices cuda:998: there is no such GPU; PyTorch finds "),
    ],
)
def test_a_wrong_option_leaves_no_trace_in_the_folder(tmp_path: Path, wrong: dict[str, Any], message: str) -> None:
    (tmp_path / "results.csv").write_text("an earlier run's")
    options = replace(Options(out=tmp_path, resume=False), **wrong)
    with pytest.raises(CaffeCompatError, match=message):
        run(options, Console(quiet=True))
    assert [path.name for path in tmp_path.iterdir()] == ["results.csv"]


def test_images_that_turn_out_to_be_wrong_do_not_bind_the_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no class folders here"):
        run(Options(data=f"folder:{tmp_path / 'images'}", out=made(tmp_path / "images").parent), Console(quiet=True))
    assert not (tmp_path / "settings.json").exists()


def test_a_mistyped_path_to_imagenet_does_not_bind_the_folder(tmp_path: Path) -> None:
    """Folders that are there, but hold no images, or too few classes for the split."""
    out = tmp_path / "out"
    for c in range(4):
        (tmp_path / "tiny" / "train" / f"n0000000{c}").mkdir(parents=True)
        (tmp_path / "tiny" / "train" / f"n0000000{c}" / "a.JPEG").touch()
    (tmp_path / "tiny" / "val").mkdir()
    (tmp_path / "tiny" / "val.txt").touch()
    cases = (
        (made(tmp_path / "empty"), "0", "neither a folder"),
        (tmp_path / "tiny", "natman", "halfnatmanA: 4 classes here"),
    )
    for path, split, message in cases:
        options = Options(data=f"imagenet:{path}", split=split, treatments=("base",), out=out)
        with pytest.raises(DataError, match=message):
            run(options, Console(quiet=True))
        assert not (out / "settings.json").exists()
        assert not list((out / "data").iterdir())


def made(folder: Path) -> Path:
    """The folder, which is there now."""
    folder.mkdir()
    return folder


@pytest.mark.parametrize("text", ["", "[" * 100_000, "9" * 5000, "3", '{"made": 3}', '{"made": [], "classes": "x"}'])
def test_what_an_earlier_run_noted_is_checked(tmp_path: Path, text: str) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "images.json").write_text(text)
    with pytest.raises(DataError, match=r"data/images\.json: "):
        _prepare_data(Options(out=tmp_path), [], Console(quiet=True))


def threads_of(monkeypatch: pytest.MonkeyPatch, options: Options, cores: int) -> int:
    """With how many threads each network of a run is computed on a machine with so many cores; nothing is trained."""
    modes: list[Mode] = []
    monkeypatch.setattr("reproduce.experiment.cores", lambda: cores)
    monkeypatch.setattr("reproduce.experiment._prepare_data", lambda *_: Prepared(3, 16, {}))

    def note(options: Options, mode: Mode) -> None:
        modes.append(mode)

    monkeypatch.setattr("reproduce.experiment.make_runner", note)
    monkeypatch.setattr("reproduce.experiment.train_networks", lambda *_, **__: [])
    with pytest.raises(DataError, match="no network is finished here"):
        run(options, Console(quiet=True))
    return modes[0].threads


def test_a_run_keeps_the_threads_that_it_was_begun_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They order the sums, so that other --jobs or another machine would give other numbers."""

    def threads(cores: int, jobs: int | None, out: str = "a", resume: bool = True) -> int:
        options = Options(out=tmp_path / out, jobs=jobs, resume=resume, treatments=("base",))
        return threads_of(monkeypatch, options, cores)

    assert threads(8, 2) == 4
    assert [threads(8, 8), threads(8, None), threads(2, 2), threads(64, 1)] == [4] * 4
    assert threads(8, 8, resume=False) == 1
    assert threads(8, 1) == 1
    settings = tmp_path / "a" / "settings.json"
    noted = json.loads(settings.read_text())
    assert noted.pop("threads") == 1
    settings.write_text(json.dumps(noted))  # as a folder of before they were noted
    assert [threads(8, 4), threads(8, 1)] == [2, 2]
    settings.write_text(json.dumps({**noted, "threads": "many"}))
    with pytest.raises(DataError, match=r"settings.json: threads is 'many'; expected a number from 1; remove it, or "):
        run(Options(out=tmp_path / "a"), Console(quiet=True))


def test_starting_anew_removes_what_a_run_left_and_nothing_else(tmp_path: Path) -> None:
    for name in ("half0A", "reduced-0001", "data", "figures", "mine"):
        (tmp_path / name).mkdir()
    (tmp_path / "settings.json").write_text("{}")
    with pytest.raises(DataError, match="no class folders here"):
        run(Options(data=f"folder:{tmp_path / 'mine'}", out=tmp_path, resume=False), Console(quiet=True))
    assert sorted(path.name for path in tmp_path.iterdir()) == [".prepare-00000001", "mine"]


def test_one_run_at_a_time_prepares_a_folder(tmp_path: Path) -> None:
    with Lease(tmp_path, name=".prepare"):
        message = rf"process {os.getpid()} works here \(sign of life \d+ s ago\); wait for it or stop it, or"
        with pytest.raises(DataError, match=message):
            run(Options(out=tmp_path), Console(quiet=True))


def test_nothing_is_started_anew_while_a_network_is_trained(tmp_path: Path) -> None:
    (tmp_path / "half0A").mkdir()
    with Lease(tmp_path / "half0A"), pytest.raises(DataError, match="trains this network; stop it before --no-resume"):
        run(Options(out=tmp_path, resume=False), Console(quiet=True))
    assert (tmp_path / "half0A").is_dir()
