"""Fashion-MNIST from the files that torchvision, or Debian's package, keeps."""

import gzip
import math
import struct
from pathlib import Path

import numpy as np

from caffe_compat.errors import DataError, reading
from reproduce.dataset import LoadedDataSet
from reproduce.images import ArrayImages, first_of_each_class
from reproduce.torchvision_download import download_data_set

FASHION_DEBIAN = Path("/usr/share/datasets/fashion-mnist")
FASHION_FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "valid": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
FASHION_MOST_BYTES = 60_000 * 28 * 28
FASHION_CLASSES = ["t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot"]
#: what covers the upper body
FASHION_NATURAL = (0, 2, 3, 4, 6)
#: test images per class that are used, so that testing does not outweigh training
FASHION_TEST_IMAGES = 300


class FashionMNIST(LoadedDataSet):
    """See ``load_fashion_mnist``."""

    name = "fashion-mnist"
    usage = "fashion-mnist[:ROOT]"
    about = "photographs of clothes; Debian: apt-get install dataset-fashion-mnist"
    natural = "what covers the upper body / the rest"
    prototxt = "miniature/fashion-mnist"
    size_px = 28
    channels = 1

    def load(self, path: str, download: bool) -> ArrayImages:
        """Where Debian's package has them, or below ``path``."""
        return load_fashion_mnist(Path(path) if path else None, download)


DATA_SET = FashionMNIST()


def load_fashion_mnist(root: Path | None, download: bool = False) -> ArrayImages:
    """60,000 + 3,000 photographs of clothes, 10 classes, 28x28 grey.

    ``root``: a torchvision root, or a folder with the four idx files (gzipped or not); None looks
    where Debian's package dataset-fashion-mnist installs.  Raises DataError.
    """
    if download and root is not None:
        download_data_set("FashionMNIST", root)
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
    size = 4 * (1 + axes)
    opener = gzip.open if file.suffix == ".gz" else open
    with reading(file, f"an idx file of {axes} axes"), opener(file, "rb") as handle:
        header = struct.unpack(f">{1 + axes}I", handle.read(size))
        expected = math.prod(header[1:])
        # Of a file that is none, or too long, only so much is read.
        data = handle.read(min(expected, FASHION_MOST_BYTES) + 1) if header[0] == 0x0800 + axes else b""
    if not data or len(data) != expected:
        raise DataError(f"{file}: not an idx file of {axes} axes, or cut short; install or download it again")
    return np.frombuffer(data, np.uint8).reshape(header[1:])
