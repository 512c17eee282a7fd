"""Images for the experiment: ``--data`` says which, and Caffe databases come out."""

from collections.abc import Callable
from pathlib import Path

from caffe_compat.errors import DataError
from reproduce.datasets.images import Images

#: too many images for Images; see datasets/imagenet.py
IMAGENET = "imagenet"
#: the folder below prototxt/ whose networks suit each kind of images; an LMDB goes by its images' size
PROTOTXTS = {
    "glyphs": "miniature/glyphs",
    "fashion-mnist": "miniature/fashion-mnist",
    "cifar100": "miniature/photos",
    "folder": "miniature/photos",
    IMAGENET: "paper",
}
_PROTOTXT_OF_SIZE = {28: "miniature/fashion-mnist", 32: "miniature/photos"}
_PAPER_LEAST_PX = 227
CHOICES = "glyphs, fashion-mnist[:ROOT], cifar100:ROOT, folder:PATH, lmdb:TRAIN,VAL, imagenet:PATH"


def check_choice(choice: str) -> None:
    """DataError unless ``--data`` names a kind of images, with a path where it needs one."""
    kind, _, place = choice.partition(":")
    if kind not in (*_LOADERS, IMAGENET):
        raise DataError(f"--data {choice}: unknown; expected one of {CHOICES}")
    if not place and kind not in ("glyphs", "fashion-mnist"):
        raise DataError(f"--data {choice}: says no path; expected one of {CHOICES}")


def prototxt_folder(choice: str, size: int) -> str:
    """The folder below prototxt/ for images of ``size`` pixels; DataError when none suits."""
    kind = choice.partition(":")[0]
    if kind in PROTOTXTS:
        return PROTOTXTS[kind]
    if size >= _PAPER_LEAST_PX:
        return PROTOTXTS[IMAGENET]
    if size not in _PROTOTXT_OF_SIZE:
        raise DataError(
            f"--data {choice}: images of {size} pixels; our networks take 28, 32, or {_PAPER_LEAST_PX} and more: "
            "convert the images again, or give networks of your own with --prototxt"
        )
    return _PROTOTXT_OF_SIZE[size]


def load_images(choice: str, download: bool = False) -> Images:
    """The images that ``--data`` names, ImageNet's aside; DataError when they are not there or damaged."""
    check_choice(choice)
    kind, _, place = choice.partition(":")
    return _LOADERS[kind](place, download)


def _glyphs(place: str, download: bool) -> Images:
    from reproduce.datasets import glyphs

    if place:
        raise DataError(f"--data glyphs:{place}: the glyphs are drawn, they have no path; use --data glyphs")
    return glyphs.load()


def _fashion_mnist(place: str, download: bool) -> Images:
    from reproduce.datasets.torchvision_sets import load_fashion_mnist

    return load_fashion_mnist(Path(place) if place else None, download)


def _cifar100(place: str, download: bool) -> Images:
    from reproduce.datasets.torchvision_sets import load_cifar100

    return load_cifar100(Path(place), download)


def _folder(place: str, download: bool) -> Images:
    from reproduce.datasets.folder import load_folder

    return load_folder(Path(place))


def _lmdb(place: str, download: bool) -> Images:
    from reproduce.datasets.lmdb_pair import LMDBImages

    train, comma, valid = place.partition(",")
    if not comma:
        raise DataError(f"--data lmdb:{place}: one path; expected two, lmdb:TRAIN,VAL")
    return LMDBImages(Path(train), Path(valid))


_LOADERS: dict[str, Callable[[str, bool], Images]] = {
    "glyphs": _glyphs,
    "fashion-mnist": _fashion_mnist,
    "cifar100": _cifar100,
    "folder": _folder,
    "lmdb": _lmdb,
}
