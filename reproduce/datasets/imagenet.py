"""ILSVRC12: one LMDB of all images, and a small index file for each half and reduced set."""

import argparse
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from caffe_compat.data.index_file import SubsetReader, write_index_file
from caffe_compat.data.lmdb import LMDBReader
from caffe_compat.errors import DataError
from caffe_compat.tools import prepare_imagenet
from reproduce.plan import REDUCED_SIZES, WHOLE, Network

#: part -> (name of the LMDB of all images, suffix of a subset's index file), as prepare_imagenet has them
PARTS = {"train": ("train_lmdb", "train"), "valid": ("val_lmdb", "val")}


def prepare(root: Path, networks: Iterable[Network], folder: Path) -> int:
    """Put the data sets of ``networks`` into ``folder`` under the names of the run folders.

    ``root``: ILSVRC12 as it is downloaded, or what ``caffe-compat prepare_imagenet`` made of it.
    Returns the number of classes.  Raises DataError.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; expected ILSVRC12, or what prepare_imagenet made of it")
    prepared = root if (root / "synsets.txt").is_file() and (root / "train_lmdb").exists() else _prepare(root, folder)
    for network in networks:
        _put(prepared, network.data, "train", folder)
        _put(prepared, network.test_data, "valid", folder)
        mean = folder / f"{network.data}_mean.binaryproto"
        if not mean.exists():
            _link(prepared / "means" / f"{_subset(network.data)}.binaryproto", mean)
    return len((prepared / "synsets.txt").read_text().split())


def _prepare(root: Path, folder: Path) -> Path:
    prepared = folder / "imagenet"
    parser = argparse.ArgumentParser()
    prepare_imagenet.add_arguments(parser)
    # It returns 1 when lists differ from the authors', which it has said, and which part of ILSVRC12 may.
    prepare_imagenet.run(parser.parse_args(["--root", str(root), "--out", str(prepared)]))
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
