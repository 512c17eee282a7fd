"""The LMDBs, lists, subsets and means of the paper, made from ILSVRC 2012."""

import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from caffe_compat.atomic_file import write_text
from caffe_compat.data.convert import ConvertOptions, convert_images, make_record
from caffe_compat.data.database import open_database
from caffe_compat.data.image_list import ImageList
from caffe_compat.data.index_file import write_index_file
from caffe_compat.data.lmdb import LMDBReader
from caffe_compat.data.mean import write_mean
from caffe_compat.data.thread_map import usable_cores
from caffe_compat.errors import DataError
from caffe_compat.file_lock import FileLock
from caffe_compat.progress import show_progress
from reproduce.databases import stored_bytes
from reproduce.imagenet.ilsvrc import ListedImages, find_train, find_valid
from reproduce.imagenet.lists import compare_list, list_text, paper_subsets, parse_list_line
from reproduce.imagenet.means import subset_means
from reproduce.network import WHOLE

_SAMPLE = 32  # images read for the estimate

#: (name, training lines, validation lines or None)
Subset = tuple[str, list[str], list[str] | None]


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """What to prepare, where, and in what form."""

    root: Path  # the folder with ILSVRC 2012: folders or tar files
    out: Path
    train_list: Path | None = None  # Caffe's train.txt; None: all images by name
    val_list: Path | None = None  # Caffe's val.txt
    size_px: int = 256  # height and width
    encode_type: str = ""  # "jpg": a tenth of the disk
    seed: int = 0  # of the shuffle of the training images
    separate: bool = False  # a real LMDB for each subset instead of an index file
    means: bool = True
    only: frozenset[str] | None = None  # subsets to make; None: all
    threads: int | None = None  # that decode; None: as many as cores


def prepare_imagenet(job: Preparation, *, only_estimate: bool = False) -> bool:
    """Write LMDBs, lists, subsets and means into ``job.out``, or what an earlier call has left to do.

    Prints what it finds, needs and writes.  With ``only_estimate`` it stops after the disk and time needed.
    Returns False when a list that it wrote differs from the authors'.  Raises DataError when images or labels are
    missing, or the disk is too small.
    """
    train, synsets = find_train(job.root, job.train_list)
    valid = find_valid(job.root, synsets, job.val_list)
    subsets: list[Subset] = list(paper_subsets(train.lines, valid.lines, len(synsets)))
    print(f"{len(train.lines)} training and {len(valid.lines)} validation images of {len(synsets)} classes")
    _check_wanted(job, subsets, len(synsets))
    options = _options(job)
    need_bytes, free_bytes = _estimate(job, train, valid, subsets, options)
    if only_estimate:
        return True
    if need_bytes > free_bytes:
        raise DataError(
            f"{job.out}: needs about {need_bytes / 1e9:.3g} GB but {free_bytes / 1e9:.3g} GB are free; "
            "try --encode_type=jpg"
        )
    job.out.mkdir(parents=True, exist_ok=True)
    refusal = DataError(f"{job.out}: another process prepares it; wait for it, or choose another --out")
    with FileLock(job.out / ".lock", refusal):
        write_text(job.out / "synsets.txt", list_text(synsets))
        return _prepare(job, train, valid, subsets=subsets, options=options)


def _prepare(
    job: Preparation, train: ListedImages, valid: ListedImages, *, subsets: list[Subset], options: ConvertOptions
) -> bool:
    """Write what is not there yet; returns whether all lists are the authors'."""
    all_equal = _write_lists(job.out / "lists", subsets)

    databases = {}
    for kind, images in (("train", train), ("val", valid)):
        databases[kind] = _convert(
            job, job.out / f"{kind}_lmdb", subset=WHOLE, kind=kind, images=images, options=options
        )
    (job.out / "subsets").mkdir(exist_ok=True)
    for name, train_lines, valid_lines in subsets:
        for kind, images, lines in (("train", train, train_lines), ("val", valid, valid_lines)):
            if lines is None or name == WHOLE or not _wants(job, name):
                continue
            target = job.out / "subsets" / f"{name}.{kind}"
            if job.separate:
                _convert(job, target, subset=name, kind=kind, images=images, options=options)
            elif not target.exists():
                _write_index(target, databases[kind], lines)
    if job.means:
        _write_means(job, databases["train"], {name: lines for name, lines, _ in subsets if _wants(job, name)})
    print(f"done: {job.out}")
    return all_equal


def _wants(job: Preparation, name: str) -> bool:
    return job.only is None or name in job.only


def _check_wanted(job: Preparation, subsets: list[Subset], classes: int) -> None:
    """DataError for a subset that these images do not have, before hours are spent on the others."""
    missing = sorted((job.only or set()) - {name for name, _, _ in subsets})
    if missing:
        raise DataError(
            f"{job.root}: has no such subset as {missing[0]}: {classes} classes here; give all of ILSVRC12, or choose "
            "another --split"
        )


def needed_bytes(job: Preparation) -> float:
    """The disk that ``prepare_imagenet`` would fill, from a few images.  Raises DataError as it does."""
    train, synsets = find_train(job.root, job.train_list)
    valid = find_valid(job.root, synsets, job.val_list)
    subsets: list[Subset] = list(paper_subsets(train.lines, valid.lines, len(synsets)))
    return _count_images(job, train, valid, subsets) * _sample(train, _options(job))[0]


def _options(job: Preparation) -> ConvertOptions:
    return ConvertOptions(resize_height=job.size_px, resize_width=job.size_px, encode_type=job.encode_type)


def _count_images(job: Preparation, train: ListedImages, valid: ListedImages, subsets: list[Subset]) -> int:
    """How many images are stored."""
    images = len(train.lines) + len(valid.lines)
    if job.separate:
        images += sum(len(t) + len(v or ()) for name, t, v in subsets if name != WHOLE and _wants(job, name))
    return images


def _sample(train: ListedImages, options: ConvertOptions) -> tuple[float, float]:
    """(bytes, seconds) of an image, on average of a few."""
    sample = train.lines[:: max(1, len(train.lines) // _SAMPLE)][:_SAMPLE]
    start_s, size = time.perf_counter(), 0
    for line in sample:
        name, label = parse_list_line(line)
        size += stored_bytes(len(make_record(train.root + name, label, options, train.read)[0]))
    return size / len(sample), (time.perf_counter() - start_s) / len(sample)


def _estimate(
    job: Preparation, train: ListedImages, valid: ListedImages, subsets: list[Subset], options: ConvertOptions
) -> tuple[float, float]:
    """(bytes needed, bytes free); prints them and the time, measured on a few images."""
    bytes_each, seconds_each = _sample(train, options)
    images = _count_images(job, train, valid, subsets)
    need_bytes = images * bytes_each
    threads = job.threads or usable_cores()
    place = next(p for p in (job.out, *job.out.absolute().parents) if p.exists())
    # What an earlier run has written is not needed again.
    free_bytes = shutil.disk_usage(place).free + sum(f.stat().st_size for f in job.out.glob("**/data.mdb"))
    print(
        f"needs about {need_bytes / 1e9:.3g} GB of disk ({free_bytes / 1e9:.3g} GB free) and "
        f"{images * seconds_each / threads / 3600:.2g} h with {threads} threads, or the time to write that much"
    )
    return need_bytes, free_bytes


def _write_lists(folder: Path, subsets: list[Subset]) -> bool:
    """Write all lists; print how they compare with the authors' and return whether all are equal."""
    folder.mkdir(parents=True, exist_ok=True)
    all_equal = True
    for name, *lists in subsets:
        for kind, lines in zip(("train", "valid"), lists, strict=True):
            if lines is None:
                continue
            write_text(folder / f"{name}.{kind}.txt", list_text(lines))
            verdict, equal = compare_list(name, kind, lines)
            all_equal &= equal
            print(f"  {name}.{kind}: {len(lines)} images, {verdict}")
    return all_equal


def _convert(
    job: Preparation, path: Path, *, subset: str, kind: str, images: ListedImages, options: ConvertOptions
) -> Path:
    """Convert the images of a subset's list unless an earlier run has; those for training are shuffled."""
    if path.exists():
        print(f"{path}: there already")
        return path
    entries = ImageList(job.out / "lists" / f"{subset}.{'train' if kind == 'train' else 'valid'}.txt")
    order = list(range(len(entries)))
    if kind == "train":
        np.random.RandomState(job.seed).shuffle(order)
    with show_progress(path.name, len(entries)) as update:
        made = convert_images(
            images.root,
            entries,
            path,
            options,
            order=order,
            report=lambda done, problem: update(done),
            threads=job.threads,
            read=images.read,
        )
    print(f"{path}: {made.records} records" + (f", {made.skipped} images could not be read" if made.skipped else ""))
    return path


def _write_index(path: Path, database: Path, lines: list[str]) -> None:
    """The subset in the database's (shuffled) order, so that reading it goes forward on the disk."""
    labels = dict(map(parse_list_line, lines))
    chosen = []
    for number, key in enumerate(LMDBReader(database).keys()):
        label = labels.get(os.fsdecode(key).split("_", 1)[1])
        if label is not None:
            chosen.append((number, label))
    table = np.array(chosen, np.int64).reshape(-1, 2)
    write_index_file(path, database, table[:, 0], table[:, 1])
    print(f"{path}: {len(table)} records")


def _write_means(job: Preparation, source: Path, lines: dict[str, list[str]]) -> None:
    """The means of these subsets that are not there yet, in one pass over all training images."""
    folder = job.out / "means"
    folder.mkdir(exist_ok=True)
    names = [name for name in lines if not (folder / f"{name}.binaryproto").exists()]
    if not names:
        return
    within: dict[str, int] = {}  # image -> one bit for each subset that it is in
    for bit, name in enumerate(names):
        for line in lines[name]:
            image = parse_list_line(line)[0]
            within[image] = within.get(image, 0) | 1 << bit
    database = open_database(source)
    keys = map(os.fsdecode, LMDBReader(source).keys())
    bits = np.fromiter((within.get(key.split("_", 1)[1], 0) for key in keys), np.int64)
    members = {name: (bits >> bit & 1).astype(bool) for bit, name in enumerate(names)}
    with show_progress(f"means of {len(names)} sets", len(database)) as update:
        for name, mean in subset_means(database, members, update, job.threads).items():
            write_mean(folder / f"{name}.binaryproto", mean)
    database.close()
