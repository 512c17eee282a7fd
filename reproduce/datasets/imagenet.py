"""ILSVRC12: one LMDB of all images, and a small index file for each half and reduced set."""

import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from caffe_compat.data.database import open_database
from caffe_compat.data.index_file import SubsetReader, write_index_file
from caffe_compat.data.lmdb import LMDBReader
from caffe_compat.errors import DataError, seen_from
from reproduce.dataset import DataSet, Prepared, Storage
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
    has_storage = True
    of_the_paper = True

    def check(self, path: str) -> None:
        """See DataSet."""
        if not Path(path).is_dir():
            raise DataError(
                f"{path}: no such folder; expected ILSVRC12, or what prepare_imagenet made of it{seen_from(path)}"
            )

    def prepare(
        self,
        path: str,
        networks: Iterable[Network],
        folder: Path,
        *,
        download: bool,
        tell: Callable[[str], None],
        storage: Storage = Storage(),  # noqa: B008 (it is frozen)
    ) -> Prepared:
        """See DataSet.  The paper passes twice over a half's images in each test; once gives the same numbers."""
        self.check(path)
        folder.mkdir(exist_ok=True)
        networks = list(networks)
        classes, prepared = prepare(Path(path), networks, folder, storage)
        tests = {network.test_data: _count(folder / f"{network.test_data}_valid_lmdb") for network in networks}
        checks = compare(prepared, {network.data for network in networks} | set(tests))
        return Prepared(classes, self.size_px, tests, same_numbers=True, checks=checks)

    def database_bytes(self, path: str, networks: Iterable[Network], storage: Storage) -> float:
        """See DataSet.  Nothing more for what is prepared already."""
        from reproduce.imagenet.prepare import Preparation, needed_bytes

        root = Path(path)
        self.check(path)
        if _is_prepared(root):
            return 0.0
        only = _names(networks)
        job = Preparation(root=root, out=root, only=only, encode_type=storage.encode_type, separate=storage.separate)
        return needed_bytes(job)


DATA_SET = ImageNet()


def prepare(
    root: Path,
    networks: Iterable[Network],
    folder: Path,
    storage: Storage = Storage(),  # noqa: B008 (it is frozen)
) -> tuple[int, Path]:
    """Put the data sets of ``networks`` into ``folder`` under the names of the run folders.

    ``root``: ILSVRC12 as it is downloaded, or what ``caffe-compat prepare_imagenet`` made of it.
    Returns the number of classes, and where lists, databases and means lie.  Raises DataError.
    """
    networks = list(networks)
    if _is_prepared(root):
        if storage != Storage():
            raise DataError(
                f"{root}: is prepared already; leave out --encode-type and --separate, or give them to prepare_imagenet"
            )
        prepared = root
    else:
        prepared = _prepare(root, folder, _names(networks), storage)
    for network in networks:
        _put(prepared, network.data, "train", folder)
        _put(prepared, network.test_data, "valid", folder)
        mean = folder / f"{network.mean_data}_mean.binaryproto"
        if not mean.exists():
            _link(prepared / "means" / f"{_subset(network.mean_data)}.binaryproto", mean)
    return len((prepared / "synsets.txt").read_text().split()), prepared


def _is_prepared(root: Path) -> bool:
    return (root / "synsets.txt").is_file() and (root / "train_lmdb").exists()


def _names(networks: Iterable[Network]) -> frozenset[str]:
    """The subsets that networks need."""
    names = {name for network in networks for name in (network.data, network.test_data, network.mean_data)}
    return frozenset(map(_subset, names))


def compare(prepared: Path, names: Iterable[str]) -> dict[str, str]:
    """How lists and mean of what prepare_imagenet made compare with the authors': {what: in words}."""
    # Imported here, as in _prepare.
    from reproduce.imagenet.lists import compare_list
    from reproduce.imagenet.means import compare_mean

    found = {}
    for name in sorted(set(map(_subset, names))):
        for part in PARTS:
            file = prepared / "lists" / f"{name}.{part}.txt"
            if file.exists():
                lines = file.read_text(encoding="utf-8").splitlines()
                found[f"list {name}.{part}"] = f"{len(lines)} images, {compare_list(name, part, lines)[0]}"
    whole = prepared / "means" / f"{WHOLE}.binaryproto"
    if whole.exists():
        from caffe_compat.data.mean import read_mean  # late: --help does not need it

        found["mean of all training images"] = compare_mean(read_mean(whole))[0]
    return found


def _prepare(root: Path, folder: Path, only: frozenset[str], storage: Storage) -> Path:
    # Imported here: it brings PyTorch, which --help and --dry-run do without.
    from reproduce.imagenet.prepare import Preparation, prepare_imagenet

    prepared = folder / "imagenet"
    # A part of ILSVRC12 will do, so that lists may differ from the authors'; the report says which.
    prepare_imagenet(
        Preparation(root=root, out=prepared, only=only, encode_type=storage.encode_type, separate=storage.separate)
    )
    return prepared


def _count(database: Path) -> int:
    reader = open_database(database)
    count = len(reader)
    reader.close()
    return count


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
    if source.is_dir():  # made with --separate: a database, which Caffe itself can read, too
        LMDBReader(source).close()
        _link(source, target)
        return
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
