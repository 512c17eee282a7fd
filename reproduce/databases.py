"""Writes the halves, reduced sets and the whole set of some images as list files, Caffe LMDBs and mean files."""

import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from caffe_compat.atomic_file import write_text
from caffe_compat.data.lmdb import LMDBReader, write_lmdb
from caffe_compat.errors import DataError
from reproduce.images import Images, first_of_each_class
from reproduce.network import WHOLE, Network
from reproduce.splits import half_classes

#: the training records are shuffled once, as Caffe's ImageNet example does
SHUFFLE_SEED = 0
FULL_DISK_BYTES = 1 << 20
PAGE_BYTES = 4096  # LMDB keeps a large record in whole pages
KEY_BYTES = 16  # of a record's key and header, about


def write_databases(
    images: Images, networks: Iterable[Network], folder: Path, tell: Callable[[str], None] = print
) -> dict[str, int]:
    """Write what ``networks`` train and test on into ``folder``; returns the test images of each data set.

    ``<set>_train.txt``, ``<set>_valid.txt``, ``<set>_train_lmdb``, ``<set>_valid_lmdb`` and
    ``<set>_mean.binaryproto``.  What is there already is kept: it is whole, because each file is
    written under another name first.
    """
    networks = list(networks)
    folder.mkdir(parents=True, exist_ok=True)
    from caffe_compat.data.database_mean import compute_mean  # late: --help does not need them
    from caffe_compat.data.mean import write_mean

    for network in networks:
        for name, part in ((network.data, "train"), (network.test_data, "valid")):
            database = folder / f"{name}_{part}_lmdb"
            if not database.exists():
                count = _write_part(images, network, name, part, folder)
                tell(f"{database}: {count} images")
        mean = folder / f"{network.data}_mean.binaryproto"
        if not mean.exists():
            reader = LMDBReader(folder / f"{network.data}_train_lmdb")
            write_mean(mean, compute_mean(reader))
            reader.close()
    names = {network.test_data: network for network in networks}
    return {name: len(_chosen(images, network, name, "valid")[0]) for name, network in names.items()}


def record_counts(images: Images, networks: Iterable[Network]) -> dict[str, int]:
    """{database: how many records ``write_databases`` writes into it for ``networks``}: half0A_train_lmdb, ..."""
    networks = list(networks)
    parts = {(n.data, "train"): n for n in networks} | {(n.test_data, "valid"): n for n in networks}
    return {
        f"{name}_{part}_lmdb": len(_chosen(images, network, name, part)[0]) for (name, part), network in parts.items()
    }


def stored_bytes(record_bytes: int) -> int:
    """What a record takes in an LMDB, about: a large one whole pages, a small one little more than itself."""
    size = record_bytes + KEY_BYTES
    return -(-size // PAGE_BYTES) * PAGE_BYTES if size > PAGE_BYTES // 2 else size


def _write_part(images: Images, network: Network, name: str, part: str, folder: Path) -> int:
    """The list file and the LMDB of one part of one data set; returns the number of images."""
    database = folder / f"{name}_{part}_lmdb"
    chosen, labels = _chosen(images, network, name, part)
    names = images.names(part)
    lines = [f"{names[index]} {label}\n" for index, label in zip(chosen, labels, strict=True)]
    write_text(folder / f"{name}_{part}.txt", "".join(lines))
    order = np.arange(len(chosen))
    if part == "train":
        np.random.RandomState(SHUFFLE_SEED).shuffle(order)

    def records() -> Iterator[tuple[str, bytes]]:
        for number, i in enumerate(order):
            # Caffe's keys: the record's number and the image's name
            yield f"{number:08d}_{names[chosen[i]]}", images.record(part, int(chosen[i]), int(labels[i]))

    try:
        return write_lmdb(database, records())
    except DataError as error:
        # LMDB reports a full disk as an input/output error, so that only the disk itself can tell.
        if shutil.disk_usage(folder).free < FULL_DISK_BYTES:
            raise DataError(f"{database}: no space left on the disk; free some or choose another --out") from error
        raise


def _chosen(images: Images, network: Network, name: str, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the images of a data set, and their labels in it."""
    labels = images.labels(part)
    if name == WHOLE:
        return np.arange(len(labels)), labels
    if network.images_per_class:
        chosen = first_of_each_class(labels, network.images_per_class)
        return chosen, labels[chosen]
    classes = half_classes(network.split, len(images.classes), images.natural)[network.target]
    chosen = np.flatnonzero(np.isin(labels, classes))
    if not len(chosen):
        raise DataError(f"{name}: no {part} image has one of its {len(classes)} classes; give more images")
    return chosen, np.searchsorted(classes, labels[chosen])
