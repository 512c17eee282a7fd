"""Images and labels of ILSVRC 2012 are found in the forms that people have."""

import shutil
from pathlib import Path

import pytest

from caffe_compat.errors import DataError
from reproduce.imagenet.ilsvrc import find_train, find_valid

SYNSETS = ["n00000001", "n00000003"]


def touch(*files: Path) -> None:
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(file.name.encode())


def test_training_folders_are_numbered_in_order(tmp_path: Path) -> None:
    touch(tmp_path / "train" / SYNSETS[1] / "b.JPEG", tmp_path / "train" / SYNSETS[0] / "a.JPEG")
    touch(tmp_path / "train" / "notes" / "c.JPEG", tmp_path / "train" / SYNSETS[0] / "readme.txt")
    images, synsets = find_train(tmp_path)
    assert synsets == SYNSETS
    assert images.lines == ["n00000001/a.JPEG 0", "n00000003/b.JPEG 1"]
    assert images.read(images.root + "n00000001/a.JPEG") == b"a.JPEG"


def test_a_list_decides_the_order(tmp_path: Path) -> None:
    touch(tmp_path / "train" / SYNSETS[0] / "a.JPEG")
    (tmp_path / "train.txt").write_text("n00000001/a.JPEG 5\n")
    assert find_train(tmp_path, tmp_path / "train.txt")[0].lines == ["n00000001/a.JPEG 5"]


def test_labels_of_kaggles_file(tmp_path: Path) -> None:
    touch(tmp_path / "val" / "v1.JPEG", tmp_path / "val" / "v2.JPEG")
    rows = ["ImageId,PredictionString", "v2,n00000001 1 2 3 4", "v1,n00000003 1 2 3 4"]
    (tmp_path / "LOC_val_solution.csv").write_text("\n".join(rows) + "\n")
    assert find_valid(tmp_path, SYNSETS).lines == ["v1.JPEG 1", "v2.JPEG 0"]


def test_validation_images_in_synset_folders(tmp_path: Path) -> None:
    touch(tmp_path / "val" / SYNSETS[1] / "v1.JPEG", tmp_path / "val" / SYNSETS[0] / "v2.JPEG")
    images = find_valid(tmp_path, SYNSETS)
    assert images.lines == ["v1.JPEG 1", "v2.JPEG 0"]
    assert images.read(images.root + "v1.JPEG") == b"v1.JPEG"


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"neither a folder ILSVRC2012_img_train or train, nor .*\.tar"):
        find_train(tmp_path)
    (tmp_path / "train").mkdir()
    with pytest.raises(DataError, match="no folders named like n01440764; expected one for each class"):
        find_train(tmp_path)
    touch(tmp_path / "val" / "v1.JPEG")
    with pytest.raises(DataError, match=r"no labels of the validation images; expected val\.txt"):
        find_valid(tmp_path, SYNSETS)


def test_labels_of_the_development_kit(tmp_path: Path) -> None:
    """Its numbers are those of meta.mat; labels are the synsets' places in order."""
    synsets = ["n00000001", "n00000002", "n00000005", "n00000009"]
    touch(*(tmp_path / "val" / f"v{i}.JPEG" for i in range(1, 6)))
    kit = tmp_path / "ILSVRC2012_devkit_t12" / "data"
    kit.mkdir(parents=True)
    shutil.copy(Path(__file__).parents[2] / "golden" / "devkit" / "meta.mat", kit)
    (kit / "ILSVRC2012_validation_ground_truth.txt").write_text("3\n1\n4\n2\n2\n")
    lines = find_valid(tmp_path, synsets).lines
    assert lines == ["v1.JPEG 3", "v2.JPEG 1", "v3.JPEG 0", "v4.JPEG 2", "v5.JPEG 2"]
