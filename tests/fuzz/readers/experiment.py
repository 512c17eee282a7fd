"""Data sets of the experiment."""

import gzip
import io
import pickle
import struct
from pathlib import Path

import numpy as np

from caffe_compat.atomic_file import write_bytes
from reproduce.datasets.cifar100 import load_cifar100
from reproduce.datasets.fashion_mnist import load_fashion_mnist
from reproduce.imagenet.ilsvrc import find_valid
from reproduce.imagenet.mat_file import read_mat
from reproduce.imagenet.tar_images import TarImages
from tests.fuzz.readers.registry import reader


def idx_files(folder: Path) -> list[bytes]:
    images = struct.pack(">4I", 0x803, 3, 28, 28) + bytes(3 * 28 * 28)
    for part in ("train", "t10k"):
        (folder / f"{part}-images-idx3-ubyte").write_bytes(images)
        (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx_labels()))
    return [(folder / "t10k-labels-idx1-ubyte.gz").read_bytes()]


def idx_labels() -> bytes:
    return struct.pack(">2I", 0x801, 3) + b"\0\1\2"


@reader("idx", idx_files, "gzip", "train-labels-idx1-ubyte.gz")
def _idx(path: Path) -> None:
    load_fashion_mnist(path.parent)


def cifar_files(folder: Path) -> list[bytes]:
    batch = {b"data": np.zeros((2, 3072), np.uint8), b"fine_labels": [0, 1]}
    for name in ("train", "test"):
        write_bytes(folder / name, pickle.dumps(batch, 3))
    write_bytes(folder / "meta", pickle.dumps({b"fine_label_names": [b"apple", b"bed"]}, 3))
    return [pickle.dumps(batch, 3)]


@reader("cifar", cifar_files, "bytes", "train")
def _cifar(path: Path) -> None:
    load_cifar100(path.parent)


def mat_files(_: Path) -> list[bytes]:
    folder = Path(__file__).parents[2] / "golden" / "devkit"
    return [(folder / name).read_bytes() for name in ("meta.mat", "meta_plain.mat")]


@reader("mat", mat_files, "bytes", ".mat")
def _mat(path: Path) -> None:
    read_mat(path)


def imagenet_folder(folder: Path) -> None:
    (folder / "val").mkdir(exist_ok=True)
    for number in (1, 2):
        (folder / "val" / f"ILSVRC2012_val_0000000{number}.JPEG").touch()


def kaggle_lists(folder: Path) -> list[bytes]:
    imagenet_folder(folder)
    rows = [f"ILSVRC2012_val_0000000{i},{name} 1 2 3 4" for i, name in ((1, "n01440764"), (2, "n01443537"))]
    return ["\n".join(["ImageId,PredictionString", *rows]).encode()]


@reader("kaggle", kaggle_lists, "text", "LOC_val_solution.csv")
def _kaggle(path: Path) -> None:
    find_valid(path.parent, ["n01440764", "n01443537"])


def tars(_: Path) -> list[bytes]:
    import tarfile

    inner, outer = io.BytesIO(), io.BytesIO()
    for file, name, content in ((inner, "a.JPEG", b"image"), (outer, "n01440764.tar", None)):
        with tarfile.open(fileobj=file, mode="w") as tar:
            data = inner.getvalue() if content is None else content
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return [outer.getvalue()]


@reader("tar", tars, "text", ".tar")
def _tar(path: Path) -> None:
    members = TarImages(path)
    for name in members.names():
        members.read(name)
