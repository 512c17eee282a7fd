"""ILSVRC 2012 as it is downloaded: where its images and labels are, as folders or tar files."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from caffe_compat.data.image_list import read_file
from caffe_compat.errors import DataError, reading, seen_from
from reproduce.imagenet.mat_file import read_mat
from reproduce.imagenet.tar_images import TarImages

_TRAIN_PLACES = ("ILSVRC2012_img_train", "train", "ILSVRC/Data/CLS-LOC/train")
_VALID_PLACES = ("ILSVRC2012_img_val", "val", "ILSVRC/Data/CLS-LOC/val")
_SYNSET = re.compile(r"n\d{8}")


@dataclass(frozen=True)
class ListedImages:
    """Training or validation images."""

    lines: list[str]  # ``name label``
    root: str  # what goes before a name for ``read``
    read: Callable[[str], bytes]  # root + name -> the bytes of the image's file


def find_train(root: Path, train_list: Path | None = None) -> tuple[ListedImages, list[str]]:
    """(training images, synsets in order) below ``root``: folders ``n########``, or the tar file of tar files.

    Images are listed by synset and name, or as ``train_list`` says.  Raises DataError when there
    are none.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; expected one with ILSVRC 2012{seen_from(root)}")
    folder = _find(root, _TRAIN_PLACES)
    read: Callable[[str], bytes] = read_file
    if folder is not None:
        synsets = sorted(p.name for p in folder.iterdir() if _SYNSET.fullmatch(p.name))
        names: Iterator[str] = (f"{s}/{image}" for s in synsets for image in _files(folder / s))
        source = f"{folder}/"
    else:
        tar = _find_tar(root, "train")
        members = TarImages(tar)
        listed = sorted(members.names())
        synsets = sorted({name.split("/")[0] for name in listed})
        names, source, read = iter(listed), "", members.read
    if not synsets:
        raise DataError(f"{folder or root}: no folders named like n01440764; expected one for each class")
    number = {synset: index for index, synset in enumerate(synsets)}
    lines = [f"{name} {number[name.split('/')[0]]}" for name in names]
    return ListedImages(_read_list(train_list) if train_list else lines, source, read), synsets


def find_valid(root: Path, synsets: Sequence[str], valid_list: Path | None = None) -> ListedImages:
    """Validation images below ``root``: one folder or tar with their labels beside it, or synset folders.

    The labels come from ``valid_list`` (Caffe's val.txt), a ``val.txt`` in ``root``, Kaggle's
    ``LOC_val_solution.csv``, or the development kit's ground truth.  Raises DataError when
    images or labels are missing.
    """
    folder = _find(root, _VALID_PLACES)
    if folder is not None and any(_SYNSET.fullmatch(p.name) for p in folder.iterdir()):
        number = {synset: index for index, synset in enumerate(synsets)}
        found = sorted((name, s) for s in synsets if (folder / s).is_dir() for name in _files(folder / s))
        homes = {name: f"{folder}/{s}/{name}" for name, s in found}
        lines = [f"{name} {number[s]}" for name, s in found]
        return ListedImages(lines, "", lambda name: read_file(homes[name]))
    read: Callable[[str], bytes] = read_file
    if folder is not None:
        names, source = _files(folder), f"{folder}/"
    else:
        members = TarImages(_find_tar(root, "val"))
        names, source, read = sorted(members.names()), "", members.read
    given = valid_list or next((p for p in (root / "val.txt",) if p.is_file()), None)
    if given is not None:
        return ListedImages(_read_list(given), source, read)
    return ListedImages(_label_valid(root, names, synsets), source, read)


def _find(root: Path, places: Sequence[str]) -> Path | None:
    return next((root / place for place in places if (root / place).is_dir()), None)


def _find_tar(root: Path, kind: str) -> Path:
    tar = root / f"ILSVRC2012_img_{kind}.tar"
    if not tar.is_file():
        raise DataError(f"{root}: neither a folder ILSVRC2012_img_{kind} or {kind}, nor ILSVRC2012_img_{kind}.tar")
    return tar


def _files(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.suffix.lower() in (".jpeg", ".jpg", ".png"))


def _read_list(path: Path) -> list[str]:
    with reading(path, "a text file of one line for each image"):
        return path.read_text(encoding="utf-8").splitlines()


def _label_valid(root: Path, names: Sequence[str], synsets: Sequence[str]) -> list[str]:
    number = {synset: index for index, synset in enumerate(synsets)}
    kaggle = next(root.rglob("LOC_val_solution.csv"), None)
    if kaggle is not None:
        with reading(kaggle, "Kaggle's lines `image,synset ...` of these images and synsets"):
            rows = dict(line.split(",", 1) for line in _read_list(kaggle)[1:])
            return [f"{name} {number[rows[Path(name).stem].split()[0]]}" for name in names]
    truth = next(root.rglob("ILSVRC2012_validation_ground_truth.txt"), None)
    meta = next(root.rglob("meta.mat"), None)
    if truth is None or meta is None:
        raise DataError(
            f"{root}: no labels of the validation images; expected val.txt (--val-list), LOC_val_solution.csv, synset "
            "folders, or ILSVRC2012_validation_ground_truth.txt with meta.mat"
        )
    identities = _read_identities(meta)
    with reading(truth, "numbers of the synsets in meta.mat"):
        labels = [number[identities[int(line)]] for line in _read_list(truth)]
    if len(labels) != len(names):
        raise DataError(f"{truth}: {len(labels)} labels for {len(names)} images")
    return [f"{name} {label}" for name, label in zip(names, labels, strict=True)]


def _read_identities(meta: Path) -> dict[int, str]:
    """ILSVRC2012_ID -> synset, from the development kit."""
    with reading(meta, "the development kit's meta.mat"):
        rows = read_mat(meta)["synsets"]
        return {int(row["ILSVRC2012_ID"][0]): str(row["WNID"]) for row in rows}
