"""CIFAR-100 from the files that torchvision keeps."""

import io
import pickle
import pickletools
from pathlib import Path
from typing import Any

import numpy as np

from caffe_compat.errors import DataError, reading
from reproduce.dataset import LoadedDataSet
from reproduce.images import ArrayImages, first_of_each_class
from reproduce.torchvision_download import download_data_set

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


class CIFAR100(LoadedDataSet):
    """See ``load_cifar100``."""

    name = "cifar100"
    usage = "cifar100:ROOT"
    about = "photographs of 100 kinds of things, in a torchvision root"
    natural = "plants, animals, people, landscapes / what people make"
    prototxt = "miniature/photos"
    size_px = 32
    needs_path = True

    def load(self, path: str, download: bool) -> ArrayImages:
        """From the torchvision root ``path``."""
        return load_cifar100(Path(path), download)


DATA_SET = CIFAR100()


def load_cifar100(root: Path, download: bool = False) -> ArrayImages:
    """50,000 + 3,000 photographs, 100 classes, 32x32 colour, from a torchvision root.  Raises DataError."""
    if download:
        download_data_set("CIFAR100", root)
    folder = root if (root / "meta").is_file() else root / CIFAR_FOLDER
    if not (folder / "meta").is_file():
        raise DataError(f"{root}: no CIFAR-100 here ({CIFAR_FOLDER}/meta); add --download, or give a torchvision root")
    with reading(folder / "meta", "CIFAR-100's names of classes"):
        classes = [name.decode() for name in _unpickle(folder / "meta")[b"fine_label_names"]]
    pixels, labels = {}, {}
    for part, name in (("train", "train"), ("valid", "test")):
        with reading(folder / name, "CIFAR-100's images and labels"):
            batch = _unpickle(folder / name)
            pixels[part] = np.asarray(batch[b"data"], np.uint8).reshape(-1, 3, 32, 32)[:, ::-1]  # RGB to BGR
            labels[part] = np.asarray(batch[b"fine_labels"], np.int64).reshape(len(pixels[part]))
            if not len(labels[part]) or not 0 <= labels[part].min() <= labels[part].max() < len(classes):
                raise DataError(f"{folder / name}: labels are not 0 to {len(classes) - 1}; download it again")
    chosen = first_of_each_class(labels["valid"], CIFAR_TEST_IMAGES)
    pixels["valid"], labels["valid"] = pixels["valid"][chosen], labels["valid"][chosen]
    natural = tuple(i for i, name in enumerate(classes) if name not in CIFAR_MAN_MADE)
    return ArrayImages(classes, pixels, labels, natural)


_NUMPY = ("numpy", "numpy.core.multiarray", "numpy._core.multiarray", "numpy.core.numeric", "numpy._core.numeric")


class _ArrayUnpickler(pickle.Unpickler):
    """Takes lists, dicts, bytes and NumPy arrays only: a pickle may otherwise run any code."""

    def find_class(self, module: str, name: str) -> object:
        if module in _NUMPY and name in ("_reconstruct", "ndarray", "dtype", "scalar"):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} has no place in CIFAR-100")


def _unpickle(file: Path) -> dict[bytes, Any]:
    data = file.read_bytes()
    for opcode, number, _ in pickletools.genops(data):  # fails where a length lies, before memory is taken for it
        if opcode.name == "LONG_BINPUT" and (number or 0) > len(data):
            raise pickle.UnpicklingError(f"place {number} of the memo")
    content: dict[bytes, Any] = _ArrayUnpickler(io.BytesIO(data), encoding="bytes").load()
    return content
