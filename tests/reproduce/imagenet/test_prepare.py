"""On a made-up ILSVRC of six classes, as folders and as tar files."""

import tarfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from caffe_compat.cli import main
from caffe_compat.data import LMDBDataset, open_database, read_mean
from caffe_compat.data.database_mean import compute_mean
from caffe_compat.errors import DataError
from caffe_compat.file_lock import FileLock
from reproduce.imagenet.prepare import Preparation, prepare_imagenet
from reproduce.splits import random_half_classes

SYNSETS = [f"n0000000{i}" for i in (1, 2, 4, 5, 7, 9)]
PER_CLASS, VALID = 3, 12
SIZES = (1, 2, 5, 10, 25, 50, 100, 250, 500, 750, 1000)


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    root = tmp_path / "ILSVRC2012"
    rng = np.random.default_rng(0)

    def write(path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), rng.integers(0, 256, (20, 24, 3), dtype=np.uint8))

    for synset in SYNSETS:
        for number in range(PER_CLASS):
            write(root / "ILSVRC2012_img_train" / synset / f"{synset}_{number}.JPEG")
    names = [f"ILSVRC2012_val_{number:08d}.JPEG" for number in range(1, VALID + 1)]
    for name in names:
        write(root / "ILSVRC2012_img_val" / name)
    (root / "val.txt").write_text("".join(f"{name} {i % len(SYNSETS)}\n" for i, name in enumerate(names)))
    return root


def prepare(root: Path, out: Path, *flags: str) -> int:
    return main(["prepare_imagenet", f"--root={root}", f"--out={out}", "--size=16", *flags])


def contents(path: Path) -> list[tuple[bytes, int]]:
    dataset = LMDBDataset(path)
    return sorted((dataset[i][0].numpy().tobytes(), dataset[i][1]) for i in range(len(dataset)))


def test_index_files_equal_separate_databases(
    folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prepare(folders, tmp_path / "out") == 1  # six classes: no list is the authors'
    printed = capsys.readouterr().out
    assert "18 training and 12 validation images of 6 classes" in printed
    assert "GB free" in printed
    assert "whole.train: 18 images, MD5" in printed
    assert prepare(folders, tmp_path / "separate", "--separate", "--no_means") == 1
    names = [f"half{s}{letter}.{kind}" for s in range(4) for letter in "AB" for kind in ("train", "val")]
    names += [f"reduced-{k:04d}.train" for k in (1, 2, 5, 1000)]
    for name in names:
        assert contents(tmp_path / "out/subsets" / name) == contents(tmp_path / "separate/subsets" / name)
    assert (tmp_path / "out/synsets.txt").read_text().split() == SYNSETS


def test_labels_order_and_means(folders: Path, tmp_path: Path) -> None:
    prepare(folders, tmp_path / "out")
    half_a = random_half_classes(0, 6)[0]
    lines = (tmp_path / "out/lists/half0A.valid.txt").read_text().splitlines()
    assert [int(line.split()[1]) for line in lines] == [0, 1, 2] * 2
    assert [line.split()[0] for line in lines] == [
        f"ILSVRC2012_val_{i + 1:08d}.JPEG" for i in range(VALID) if i % 6 in half_a
    ]
    subset = LMDBDataset(tmp_path / "out/subsets/half0A.train")
    assert len(subset) == 3 * PER_CLASS
    labels = [subset[i][1] for i in range(len(subset))]
    assert sorted(labels) == [0] * 3 + [1] * 3 + [2] * 3
    assert labels != sorted(labels)  # shuffled
    mean = np.mean([subset[i][0].numpy() for i in range(len(subset))], axis=0)
    assert np.allclose(read_mean(tmp_path / "out/means/half0A.binaryproto"), mean)
    made = {path.stem for path in (tmp_path / "out/means").iterdir()}
    assert made == {"whole", *(f"half{s}{h}" for s in range(4) for h in "AB"), *(f"reduced-{k:04d}" for k in SIZES)}
    for name in ("whole", "half3B", "reduced-0001"):
        source = "train_lmdb" if name == "whole" else f"subsets/{name}.train"
        expected = compute_mean(open_database(tmp_path / "out" / source))
        assert read_mean(tmp_path / f"out/means/{name}.binaryproto").tobytes() == expected.tobytes()


def test_only_what_is_wanted_is_made_and_more_later(folders: Path, tmp_path: Path) -> None:
    job = Preparation(root=folders, out=tmp_path / "out", size_px=16, only=frozenset(["half0A", "whole"]))
    prepare_imagenet(job)
    assert {path.name for path in (tmp_path / "out/subsets").iterdir()} == {"half0A.train", "half0A.val"}
    assert {path.name for path in (tmp_path / "out/means").iterdir()} == {"half0A.binaryproto", "whole.binaryproto"}
    prepare_imagenet(replace(job, only=frozenset(["half1B"])))
    assert len(list((tmp_path / "out/means").iterdir())) == 3
    with pytest.raises(DataError, match="has no such subset as halfnatmanA: 6 classes here; give all of ILSVRC12"):
        prepare_imagenet(replace(job, out=tmp_path / "other", only=frozenset(["halfnatmanA"])))
    assert not (tmp_path / "other").exists()


def test_tar_files_give_the_same(folders: Path, tmp_path: Path) -> None:
    tars = tmp_path / "tars"
    tars.mkdir()
    with tarfile.open(tars / "ILSVRC2012_img_train.tar", "w") as outer:
        for synset in SYNSETS:
            inner_path = tmp_path / f"{synset}.tar"
            with tarfile.open(inner_path, "w") as inner:
                for image in sorted((folders / "ILSVRC2012_img_train" / synset).iterdir()):
                    inner.add(image, image.name)
            outer.add(inner_path, inner_path.name)
    with tarfile.open(tars / "ILSVRC2012_img_val.tar", "w") as outer:
        for image in sorted((folders / "ILSVRC2012_img_val").iterdir()):
            outer.add(image, image.name)
    prepare(folders, tmp_path / "a", "--no_means")
    prepare(tars, tmp_path / "b", "--no_means", f"--val_list={folders}/val.txt")
    for name in ("train_lmdb", "val_lmdb", "subsets/half1B.val"):
        assert contents(tmp_path / "a" / name) == contents(tmp_path / "b" / name)


def test_synset_folders_of_validation_images(folders: Path, tmp_path: Path) -> None:
    prepare(folders, tmp_path / "a", "--no_means")
    for line in (folders / "val.txt").read_text().splitlines():
        name, label = line.split()
        home = folders / "val" / SYNSETS[int(label)]
        home.mkdir(parents=True, exist_ok=True)
        (folders / "ILSVRC2012_img_val" / name).rename(home / name)
    (folders / "ILSVRC2012_img_val").rmdir()
    (folders / "val.txt").unlink()
    prepare(folders, tmp_path / "b", "--no_means")
    assert (tmp_path / "a/lists/whole.valid.txt").read_text() == (tmp_path / "b/lists/whole.valid.txt").read_text()
    assert contents(tmp_path / "a/val_lmdb") == contents(tmp_path / "b/val_lmdb")


def test_estimate_writes_nothing(folders: Path, tmp_path: Path) -> None:
    assert prepare(folders, tmp_path / "out", "--estimate") == 0
    assert not (tmp_path / "out").exists()


def test_missing_parts_are_named(folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folders / "val.txt").unlink()
    assert prepare(folders, tmp_path / "out") == 1
    assert "no labels of the validation images; expected val.txt" in capsys.readouterr().err
    assert prepare(tmp_path, tmp_path / "out") == 1
    assert "neither a folder ILSVRC2012_img_train or train, nor ILSVRC2012_img_train.tar" in capsys.readouterr().err


def test_two_never_prepare_one_folder(folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out").mkdir()
    with FileLock(tmp_path / "out/.lock", DataError("")):
        assert prepare(folders, tmp_path / "out") == 1
    assert (
        capsys.readouterr()
        .err.splitlines()[-1]
        .endswith("out: another process prepares it; wait for it, or choose another --out")
    )
    assert list((tmp_path / "out").iterdir()) == []
