"""ILSVRC 2012 as it is downloaded: its images, the lists Caffe uses, and the paper's subsets of them."""

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from caffe_compat.data.image_list import read_file
from caffe_compat.data.subset import natural_half_classes, random_half_classes, reduced_list, subset_list
from caffe_compat.data.tar_images import TarImages
from caffe_compat.errors import DataError

CLASSES = 1000
RANDOM_SPLITS = (0, 1, 2, 3)
REDUCED_COUNTS = (1, 2, 5, 10, 25, 50, 100, 250, 500, 750, 1000)

#: MD5 of the authors' lists: {subset: (train, valid)}; the reduced ones have a train list only
LIST_MD5: dict[str, tuple[str, str | None]] = {
    "whole": ("3be8e5d8cbd932cc295ec175d5110921", "b6284a7c08fba47457c2c1f6049a156e"),
    "half0A": ("83f4e664c68213ba43dd9b4465dd7d4e", "2f10009e20d77eb7007cf70674958b94"),
    "half0B": ("0a9e2917a5f10bdbf22974f4b1fc17ce", "cce39b383d681345c873faf2c0c28d33"),
    "half1A": ("8926a880165726455c5639e4813a2d3b", "9ab48b6420504e32ff4498e7d8569f8b"),
    "half1B": ("b95d534d95151f4fae7610d25d6377fd", "57522f5e2aa69547846089f5197c8a6b"),
    "half2A": ("61ffa67fe88e307ac1c5639a087fdf1b", "03d05b6565ab9176baccdd05d746bfd1"),
    "half2B": ("ddda030205cfd7960498d9300f5c3deb", "18de8b37378e07e60dc602b6130eeeb2"),
    "half3A": ("32369aaeb73012881558f0f16d932b95", "46086440ddde128f169f23331998499d"),
    "half3B": ("0017c6f301f33db91008663985b6f826", "e5f9f0895fd0d49a8ac0b804ec891282"),
    "halfnatmanA": ("5fb4569a4f3be3897f490ee21b356256", "4fb63c72229ba07106a558127192cb9f"),
    "halfnatmanB": ("4ba839156cd6c7f33d8ada94e4331887", "f03be5732fb6bc7928ee53397b043613"),
    "reduced-0001": ("803a36f02b511db01532a604f5704ea8", None),
    "reduced-0002": ("af6addb779610611d460f0ade2931f2f", None),
    "reduced-0005": ("abdce3ff7f7933b0323c1074de7a734d", None),
    "reduced-0010": ("d3752c71b0facde0173876293ce632fd", None),
    "reduced-0025": ("df313d05c0256010b96870f5707f0417", None),
    "reduced-0050": ("34e5285b75e5448ff82bc6b0ca0c28f7", None),
    "reduced-0100": ("8376e82b043586424b8bebf4fd4a8af2", None),
    "reduced-0250": ("e83abe901d08926ef62956be8628dbd0", None),
    "reduced-0500": ("d32ff1c8817548f0edf5557b32ca5e0e", None),
    "reduced-0750": ("5bb58aecc081ec6c27ec68bbc755bb58", None),
    "reduced-1000": ("94fce01f9b4cb80bdb3fbf2a440c26e6", None),
}
_TRAIN_PLACES = ("ILSVRC2012_img_train", "train", "ILSVRC/Data/CLS-LOC/train")
_VALID_PLACES = ("ILSVRC2012_img_val", "val", "ILSVRC/Data/CLS-LOC/val")
_SYNSET = re.compile(r"n\d{8}")


@dataclass(frozen=True)
class Images:
    """Images of one kind: list lines ``name label``, and how to read a name."""

    lines: list[str]
    root: str
    read: Callable[[str], bytes]


def find_train(root: Path, train_list: Path | None = None) -> tuple[Images, list[str]]:
    """(training images, synsets in order) below ``root``: folders ``n########``, or the tar file of tar files.

    Images are listed by synset and name, or as ``train_list`` says.  Raises DataError when there
    are none.
    """
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
    return Images(_read_list(train_list) if train_list else lines, source, read), synsets


def find_valid(root: Path, synsets: Sequence[str], valid_list: Path | None = None) -> Images:
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
        return Images(lines, "", lambda name: read_file(homes[name]))
    read: Callable[[str], bytes] = read_file
    if folder is not None:
        names, source = _files(folder), f"{folder}/"
    else:
        members = TarImages(_find_tar(root, "val"))
        names, source, read = sorted(members.names()), "", members.read
    given = valid_list or next((p for p in (root / "val.txt",) if p.is_file()), None)
    if given is not None:
        return Images(_read_list(given), source, read)
    return Images(_label_valid(root, names, synsets), source, read)


def paper_subsets(
    train: Sequence[str], valid: Sequence[str], classes: int = CLASSES
) -> Iterator[tuple[str, list[str], list[str] | None]]:
    """(name, training lines, validation lines) of the whole set, the ten halves and the eleven reduced sets.

    The natural and man-made halves exist only for ImageNet's 1000 classes.
    """
    yield "whole", list(train), list(valid)
    halves = [(f"half{split}", random_half_classes(split, classes)) for split in RANDOM_SPLITS]
    if classes == CLASSES:
        halves.append(("halfnatman", natural_half_classes()))
    for name, pair in halves:
        for letter, chosen in zip("AB", pair, strict=True):
            yield f"{name}{letter}", subset_list(train, chosen), subset_list(valid, chosen)
    for count in REDUCED_COUNTS:
        yield f"reduced-{count:04d}", reduced_list(train, count), None


def list_text(lines: Sequence[str]) -> str:
    """The lines as the authors' files have them."""
    return "".join(f"{line}\n" for line in lines)


def list_md5(lines: Sequence[str]) -> str:
    """MD5 of the list file, to compare with ``LIST_MD5``."""
    return hashlib.md5(list_text(lines).encode()).hexdigest()


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
    try:
        return path.read_text().splitlines()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None


def _label_valid(root: Path, names: Sequence[str], synsets: Sequence[str]) -> list[str]:
    number = {synset: index for index, synset in enumerate(synsets)}
    kaggle = next(root.rglob("LOC_val_solution.csv"), None)
    if kaggle is not None:
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
    labels = [number[identities[int(line)]] for line in _read_list(truth)]
    if len(labels) != len(names):
        raise DataError(f"{truth}: {len(labels)} labels for {len(names)} images")
    return [f"{name} {label}" for name, label in zip(names, labels, strict=True)]


def _read_identities(meta: Path) -> dict[int, str]:
    """ILSVRC2012_ID -> synset, from the development kit."""
    try:
        from scipy.io import loadmat
    except ImportError:
        raise DataError(f"{meta}: reading it needs scipy: pip install scipy, or give --val-list val.txt") from None
    rows = loadmat(str(meta), squeeze_me=True)["synsets"]
    return {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in rows}
