"""Data sets are found by their names; what is wrong with a choice is said in one line."""

from pathlib import Path

import numpy as np
import pytest

from caffe_compat.data import write_lmdb
from caffe_compat.data.datum import encode_datum, parse_datum
from caffe_compat.data.lmdb import LMDBReader
from caffe_compat.errors import DataError
from reproduce.dataset import LoadedDataSet, choices, data_sets, find_data_set
from reproduce.images import ArrayImages, Images
from reproduce.run_folder import PROTOTXT
from reproduce.treatments import RANDOM, base_half


def load(choice: str) -> Images:
    data_set, path = find_data_set(choice)
    assert isinstance(data_set, LoadedDataSet)
    return data_set.load(path, download=False)


def write_pair(root: Path, labels: list[int]) -> str:
    for part in ("train", "val"):
        records = [(f"{i:08d}", encode_datum(np.full((3, 32, 32), i, np.uint8), y)) for i, y in enumerate(labels)]
        write_lmdb(root / part, records)
    return f"lmdb:{root / 'train'},{root / 'val'}"


def test_refusals(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "data.mdb").write_text("no database\n" * 400)
    pair = write_pair(tmp_path / "gap", [0, 2])
    cases = {
        "letters": "--data letters: unknown; expected one of cifar100:ROOT, fashion-mnist",
        "folder": "--data folder: says no path",
        f"folder:{tmp_path / 'none'}": "none: no such folder",
        f"folder:{tmp_path / 'empty'}": "empty: no class folders here",
        f"cifar100:{tmp_path / 'empty'}": "no CIFAR-100 here.*--download",
        f"fashion-mnist:{tmp_path / 'empty'}": "no Fashion-MNIST here.*apt-get install",
        f"lmdb:{tmp_path / 'none'}": "expected two, lmdb:TRAIN,VAL",
        f"lmdb:{tmp_path / 'none'},x": "none.*: no LMDB here",
        f"lmdb:{tmp_path / 'empty'},x": "empty.*: no LMDB here",
        f"lmdb:{tmp_path / 'text'},x": "text/data.mdb: is not an LMDB",
        pair: "no image has label 1",
    }
    for choice, message in cases.items():
        with pytest.raises(DataError, match=message) as caught:
            load(choice)
        assert "\n" not in str(caught.value)


def test_every_module_of_the_folder_is_a_data_set() -> None:
    assert list(data_sets()) == ["cifar100", "fashion-mnist", "folder", "glyphs", "glyphs-large", "imagenet", "lmdb"]
    rest = "folder:PATH, glyphs, glyphs-large, imagenet:PATH, lmdb:TRAIN,VAL"
    assert choices() == f"cifar100:ROOT, fashion-mnist[:ROOT], {rest}"


@pytest.mark.parametrize("name", list(data_sets()))
def test_each_says_everything(name: str) -> None:
    data_set = data_sets()[name]
    assert data_set.usage.startswith(name)
    assert all((data_set.about, data_set.natural))
    assert data_set.channels in (1, 3)
    assert data_set.needs_path == (":" in data_set.usage.replace("[:", ""))
    assert (PROTOTXT / data_set.prototxt_folder(data_set.size_px) / "base" / "solver.prototxt").is_file()


class Stripes(LoadedDataSet):
    """A toy: stripes of four widths, grey, for the nets of Fashion-MNIST."""

    name = "stripes"
    usage = "stripes"
    about = "stripes"
    natural = "wide / narrow"
    prototxt = "miniature/fashion-mnist"
    size_px = 28
    channels = 1

    def load(self, path: str, download: bool) -> ArrayImages:
        labels = np.arange(8) % 4
        rows = np.arange(28)[None, :, None] // (1 + labels[:, None, None]) % 2
        pixels = np.broadcast_to(rows * 255, (8, 28, 28)).astype(np.uint8)[:, None]
        parts = ("train", "valid")
        names = [f"stripes{width}" for width in range(1, 5)]
        return ArrayImages(names, dict.fromkeys(parts, pixels), dict.fromkeys(parts, labels), (2, 3))


def test_a_new_data_set_is_one_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(data_sets(), "stripes", Stripes())
    data_set, path = find_data_set("stripes")
    networks = [base_half("natman", "A"), RANDOM.network(1)]
    made = data_set.prepare(path, networks, tmp_path, download=False, tell=lambda text: None)
    assert (made.classes, made.size_px, made.test_images) == (4, 28, {"halfnatmanA": 4, "whole": 8})
    records = [parse_datum(record.value) for record in LMDBReader(tmp_path / "halfnatmanA_valid_lmdb")]
    assert [datum.label for datum in records] == [0, 1, 0, 1]
    assert records[0].array()[0, :6, 0].tolist() == [0, 0, 0, 255, 255, 255]
