"""Fashion-MNIST and CIFAR-100 from the files that torchvision (or Debian) keeps."""

import gzip
import pickle
import struct
from pathlib import Path

import numpy as np

from caffe_compat.errors import DataError
from reproduce.datasets.images import ArrayImages, first_of_each_class

FASHION_DEBIAN = Path("/usr/share/datasets/fashion-mnist")
FASHION_FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "valid": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
FASHION_CLASSES = ["t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot"]
#: what covers the upper body, against the rest
FASHION_NATURAL = (0, 2, 3, 4, 6)
#: test images per class that are used, so that testing does not outweigh training
FASHION_TEST_IMAGES = 300

CIFAR_FOLDER = "cifar-100-python"
#: the classes of CIFAR-100 that people make
CIFAR_MAN_MADE = frozenset(
    (
        *("bed", "bicycle", "bottle", "bowl", "bridge", "bus", "can", "castle", "chair", "clock", "couch", "cup"),
        *("house", "keyboard", "lamp", "lawn_mower", "motorcycle", "pickup_truck", "plate", "road", "rocket"),
        *("skyscraper", "streetcar", "table", "tank", "telephone", "television", "tractor", "train", "wardrobe"),
    )
)
CIFAR_TEST_IMAGES = 30


def load_fashion_mnist(root: Path | None, download: bool = False) -> ArrayImages:
    """60,000 + 3,000 photographs of clothes, 10 classes, 28x28 grey.

    ``root``: a torchvision root, or a folder with the four idx files (gzipped or not); None looks
    where Debian's package dataset-fashion-mnist installs.  Raises DataError.
    """
    if download and root is not None:
        _download("FashionMNIST", root)
    folder = _find_fashion(root)
    pixels, labels = {}, {}
    for part, (images, marks) in FASHION_FILES.items():
        pixels[part] = _read_idx(folder, images, 3)[:, None]
        labels[part] = _read_idx(folder, marks, 1).astype(np.int64)
        if len(pixels[part]) != len(labels[part]):
            raise DataError(f"{folder}: {len(pixels[part])} images but {len(labels[part])} labels in {images}, {marks}")
    chosen = first_of_each_class(labels["valid"], FASHION_TEST_IMAGES)
    pixels["valid"], labels["valid"] = pixels["valid"][chosen], labels["valid"][chosen]
    return ArrayImages(FASHION_CLASSES, pixels, labels, FASHION_NATURAL)


def _find_fashion(root: Path | None) -> Path:
    places = [root, root / "raw", root / "FashionMNIST" / "raw"] if root is not None else [FASHION_DEBIAN]
    first = FASHION_FILES["train"][0]
    for place in places:
        if (place / first).is_file() or (place / f"{first}.gz").is_file():
            return place
    where = root or FASHION_DEBIAN
    raise DataError(
        f"{where}: no Fashion-MNIST here ({first}[.gz]); on Debian run apt-get install dataset-fashion-mnist, "
        "or give --data fashion-mnist:ROOT --download"
    )


def _read_idx(folder: Path, name: str, axes: int) -> np.ndarray:
    """An idx file of unsigned bytes (big-endian header: 0x0800 + axes, then one size per axis)."""
    plain = folder / name
    file = plain if plain.is_file() else folder / f"{name}.gz"
    try:
        data = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        header = struct.unpack_from(f">{1 + axes}I", data)
    except (OSError, EOFError, gzip.BadGzipFile, struct.error) as error:
        raise DataError(f"{file}: cannot be read: {error}; install or download it again") from None
    size = 4 * (1 + axes)
    if header[0] != 0x0800 + axes or len(data) != size + int(np.prod(header[1:])):
        raise DataError(f"{file}: not an idx file of {axes} axes, or cut short; install or download it again")
    return np.frombuffer(data, np.uint8, offset=size).reshape(header[1:])


def load_cifar100(root: Path, download: bool = False) -> ArrayImages:
    """50,000 + 3,000 photographs, 100 classes, 32x32 colour, from a torchvision root.  Raises DataError."""
    if download:
        _download("CIFAR100", root)
    folder = root if (root / "meta").is_file() else root / CIFAR_FOLDER
    if not (folder / "meta").is_file():
        raise DataError(f"{root}: no CIFAR-100 here ({CIFAR_FOLDER}/meta); add --download, or give a torchvision root")
    classes = [name.decode() for name in _unpickle(folder / "meta")[b"fine_label_names"]]
    pixels, labels = {}, {}
    for part, name in (("train", "train"), ("valid", "test")):
        batch = _unpickle(folder / name)
        pixels[part] = np.asarray(batch[b"data"], np.uint8).reshape(-1, 3, 32, 32)[:, ::-1]  # RGB to BGR
        labels[part] = np.asarray(batch[b"fine_labels"], np.int64)
    chosen = first_of_each_class(labels["valid"], CIFAR_TEST_IMAGES)
    pixels["valid"], labels["valid"] = pixels["valid"][chosen], labels["valid"][chosen]
    natural = tuple(i for i, name in enumerate(classes) if name not in CIFAR_MAN_MADE)
    return ArrayImages(classes, pixels, labels, natural)


class _ArrayUnpickler(pickle.Unpickler):
    """Takes lists, dicts, bytes and NumPy arrays only: a pickle may otherwise run any code."""

    def find_class(self, module: str, name: str) -> object:
        if module.startswith("numpy") and name in ("_reconstruct", "ndarray", "dtype", "scalar"):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} has no place in CIFAR-100")


def _unpickle(file: Path) -> dict[bytes, list]:
    try:
        with open(file, "rb") as handle:
            return _ArrayUnpickler(handle, encoding="bytes").load()
    except (OSError, EOFError, pickle.UnpicklingError, ValueError) as error:
        raise DataError(f"{file}: cannot be read: {error}; download it again") from None


def _download(name: str, root: Path) -> None:
    import torchvision

    try:
        getattr(torchvision.datasets, name)(root, download=True)
    except (OSError, RuntimeError) as error:
        raise DataError(f"{root}: {name} cannot be downloaded: {error}") from None
