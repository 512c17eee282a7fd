"""ILSVRC12: one LMDB of all images, and a small index file for each half and reduced set."""

import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from caffe_compat.data.index_file import SubsetReader, write_index_file
from caffe_compat.data.lmdb import LMDBReader
from caffe_compat.errors import DataError, seen_from
from reproduce.dataset import DataSet, Prepared
from reproduce.network import REDUCED_SIZES, WHOLE, Network

#: part -> (name of the LMDB of all images, suffix of a subset's index file), as prepare_imagenet has them
PARTS = {"train": ("train_lmdb", "train"), "valid": ("val_lmdb", "val")}


class ImageNet(DataSet):
    """The paper's own images: one LMDB of all, and a small index file for each half and reduced set."""

    name = "imagenet"
    usage = "imagenet:PATH"
    about = "ILSVRC12, as it is downloaded or as caffe-compat prepare_imagenet left it"
    natural = "the authors' 449 natural classes / 551 man-made ones"
    prototxt = "paper"
    size_px = 256
    needs_path = True

    def check(self, path: str) -> None:
        """See DataSet."""
        if not Path(path).is_dir():
            raise DataError(
                f"{path}: no such folder; expected ILSVRC12, or what prepare_imagenet made of it{seen_from(path)}"
            )

    def prepare(
        self, path: str, networks: Iterable[Network], folder: Path, *, download: bool, tell: Callable[[str], None]
    ) -> Prepared:
        """See DataSet.  A test is as long as the prototxt says: the paper's pass twice over a half's images."""
        self.check(path)
        folder.mkdir(exist_ok=True)
        return Prepared(prepare(Path(path), networks, folder), self.size_px)


DATA_SET = ImageNet()


def prepare(root: Path, networks: Iterable[Network], folder: Path) -> int:
    """Put the data sets of ``networks`` into ``folder`` under the names of the run folders.

    ``root``: ILSVRC12 as it is downloaded, or what ``caffe-compat prepare_imagenet`` made of it.
    Returns the number of classes.  Raises DataError.
    """
    prepared = root if (root / "synsets.txt").is_file() and (root / "train_lmdb").exists() else _prepare(root, folder)
    for network in networks:
        _put(prepared, network.data, "train", folder)
        _put(prepared, network.test_data, "valid", folder)
        mean = folder / f"{network.mean_data}_mean.binaryproto"
        if not mean.exists():
            _link(prepared / "means" / f"{_subset(network.mean_data)}.binaryproto", mean)
    return len((prepared / "synsets.txt").read_text().split())


def _prepare(root: Path, folder: Path) -> Path:
    # Imported here: it brings PyTorch, which --help and --dry-run do without.
    from reproduce.imagenet.prepare import Preparation, prepare_imagenet

    prepared = folder / "imagenet"
    # A part of ILSVRC12 will do, so that lists may differ from the authors'; the function has said which.
    prepare_imagenet(Preparation(root=root, out=prepared))
    return prepared


def _put(prepared: Path, name: str, part: str, folder: Path) -> None:
    """An index file of our name, or for all classes a link to the LMDB."""
    target = folder / f"{name}_{part}_lmdb"
    if target.exists():
        return
    database, suffix = PARTS[part]
    if _subset(name) == WHOLE:
        LMDBReader(prepared / database).close()  # a damaged one is found now
        _link(prepared / database, target)
        return
    source = prepared / "subsets" / f"{name}.{suffix}"
    if not source.is_file():
        raise DataError(f"{source}: no such subset; choose another --split, or run prepare_imagenet on all of ILSVRC12")
    subset = SubsetReader(source)
    write_index_file(target, prepared / database, subset.records, subset.labels)
    subset.close()


def _subset(name: str) -> str:
    """The largest reduced set holds every image."""
    return WHOLE if name == f"reduced-{REDUCED_SIZES[-1]:04d}" else name


def _link(source: Path, target: Path) -> None:
    if not source.exists():
        raise DataError(f"{source}: is missing; run caffe-compat prepare_imagenet again")
    if source.is_dir():
        os.symlink(os.path.relpath(source, target.parent), target)
    else:
        shutil.copyfile(source, target)
