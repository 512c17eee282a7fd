"""Images of one's own, one folder for each class."""

from pathlib import Path

import numpy as np

from caffe_compat.errors import DataError, seen_from
from reproduce.dataset import LoadedDataSet, prototxt_of_size
from reproduce.images import FileImages, shape_of

SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".webp", ".tif", ".tiff"))
SMALL_PX = 32
HELD_OUT = 5  # without a validation folder every 5th image of a class is for testing


class Folder(LoadedDataSet):
    """See ``load_folder``."""

    name = "folder"
    usage = "folder:PATH"
    about = "images of your own, one folder for each class"
    natural = "the classes that PATH/natural.txt names / the rest"
    prototxt = "by the size of the images"
    size_px = SMALL_PX  # of most; shape() looks
    needs_path = True

    def check(self, path: str) -> None:
        """See DataSet."""
        _check_folder(Path(path))

    def load(self, path: str, download: bool) -> FileImages:
        """From the class folders below ``path``."""
        return load_folder(Path(path))

    def shape(self, path: str) -> tuple[int, int]:
        """See DataSet."""
        channels, *sides = shape_of(load_folder(Path(path)))
        return channels, min(sides)

    def prototxt_folder(self, size_px: int) -> str:
        """See DataSet."""
        return prototxt_of_size(self.name, size_px)


DATA_SET = Folder()


def load_folder(root: Path) -> FileImages:
    """``root/train/<class>/*`` and ``root/val/<class>/*``, or ``root/<class>/*`` with a fifth held out.

    Classes are numbered in the order of their names.  ``root/natural.txt`` may name the classes
    of half A of the split natman.  Raises DataError.
    """
    _check_folder(root)
    train, valid = root / "train", next((root / n for n in ("val", "valid", "test") if (root / n).is_dir()), None)
    if train.is_dir() and valid is not None:
        classes = _class_names(train)
        files = {"train": _files(train, classes), "valid": _files(valid, classes)}
        folders = {"train": "train", "valid": valid.name}
    else:
        classes = _class_names(root)
        everything = _files(root, classes)
        files = {
            "train": [[f for i, f in enumerate(group) if i % HELD_OUT] for group in everything],
            "valid": [group[::HELD_OUT] for group in everything],
        }
        folders = {}
    for part, groups in files.items():
        for name, group in zip(classes, groups, strict=True):
            if not group:
                raise DataError(f"{root}: class {name} has no images for {part}; add some or remove its folder")
    labels = {part: np.repeat(np.arange(len(classes)), [len(g) for g in groups]) for part, groups in files.items()}
    names = {part: [name for group in groups for name in group] for part, groups in files.items()}
    return FileImages(root, classes, names, labels, _natural(root / "natural.txt", classes), folders)


def _check_folder(root: Path) -> None:
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; expected one folder of images per class{seen_from(root)}")


def _class_names(folder: Path) -> list[str]:
    classes = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    if not classes:
        raise DataError(f"{folder}: no class folders here; expected one folder of images per class")
    return classes


def _files(folder: Path, classes: list[str]) -> list[list[str]]:
    return [
        sorted(f"{name}/{file.name}" for file in (folder / name).glob("*") if file.suffix.lower() in SUFFIXES)
        for name in classes
    ]


def _natural(file: Path, classes: list[str]) -> tuple[int, ...]:
    if not file.is_file():
        return ()
    wanted = file.read_text().split()
    for name in wanted:
        if name not in classes:
            raise DataError(f"{file}: {name} is not a class here; expected names of class folders")
    return tuple(sorted(classes.index(name) for name in wanted))
