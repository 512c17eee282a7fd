"""What decides the numbers of a run is noted, and read with care."""

import json
from pathlib import Path

import pytest

from caffe_compat.errors import DataError
from reproduce.mode import Mode
from reproduce.options import Options
from reproduce.settings import is_bound, note_settings, noted_checks, noted_mode, read_noted

NEWER = ("encode_type", "separate")


def test_how_networks_are_computed_is_noted(tmp_path: Path) -> None:
    assert note_settings(Options(out=tmp_path, fast=True, precision="bf16"), 3) == 3
    assert noted_mode(tmp_path) == Mode(3, True, "bf16")
    assert note_settings(Options(out=tmp_path, fast=True, precision="bf16"), 8) == 3


@pytest.mark.parametrize("made", ["data/images.json", "data/imagenet/train_lmdb/data.mdb", "half0A/solver.prototxt"])
def test_what_was_made_binds_a_folder(tmp_path: Path, made: str) -> None:
    note_settings(Options(out=tmp_path), 1)
    assert not is_bound(tmp_path)
    assert note_settings(Options(out=tmp_path, seed=1), 2) == 2
    (tmp_path / made).parent.mkdir(parents=True)
    (tmp_path / made).touch()
    assert is_bound(tmp_path)
    with pytest.raises(DataError, match=r"was begun with --seed 1, not 2; choose another --out, or add --no-resume"):
        note_settings(Options(out=tmp_path, seed=2), 2)


@pytest.mark.parametrize("text", ["", "[" * 100_000, "9" * 5000, "3", '{"threads": 0}', '{"fast": 3}'])
def test_a_damaged_note_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "settings.json").write_text(text)
    with pytest.raises(DataError, match=r"settings\.json: ") as caught:
        noted_mode(tmp_path)
    assert "\n" not in str(caught.value)


def test_other_fields_are_kept(tmp_path: Path) -> None:
    note_settings(Options(out=tmp_path), 2)
    noted = json.loads((tmp_path / "settings.json").read_text())
    assert read_noted(tmp_path / "settings.json") == noted == {**Options().settings_that_decide(), "threads": 2}


def test_a_folder_of_before_an_option_was_there_goes_on(tmp_path: Path) -> None:
    (tmp_path / "half0A").mkdir()
    (tmp_path / "half0A" / "solver.prototxt").touch()
    older = {name: value for name, value in Options().settings_that_decide().items() if name not in NEWER}
    (tmp_path / "settings.json").write_text(json.dumps({**older, "threads": 1}))
    assert note_settings(Options(out=tmp_path), 1) == 1
    with pytest.raises(DataError, match="was begun with --encode-type None, not jpg"):
        note_settings(Options(out=tmp_path, encode_type="jpg"), 1)


def test_checks_are_texts(tmp_path: Path) -> None:
    assert noted_checks(tmp_path) == {}
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "images.json").write_text('{"checks": {"list x": "equal"}}')
    assert noted_checks(tmp_path) == {"list x": "equal"}
    (tmp_path / "data" / "images.json").write_text('{"checks": {"list x": 3}}')
    with pytest.raises(DataError, match="checks are no texts"):
        noted_checks(tmp_path)
