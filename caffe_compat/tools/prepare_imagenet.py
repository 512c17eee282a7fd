"""Make the LMDBs, subsets and mean files of the paper from ILSVRC 2012.

    caffe-compat prepare_imagenet --root ILSVRC2012 --out DIR

DIR gets train_lmdb (shuffled) and val_lmdb, 256x256 pixels each; in lists/ the lists, compared with the authors'
MD5s; in subsets/ an index file for each half and reduced set, which a Data layer takes as its source; in means/ the
mean of each training set.  Started again, it goes on where it stopped.
"""

import argparse
import os
import shutil
import time
from pathlib import Path

import numpy as np

from caffe_compat.atomic_file import write_text
from caffe_compat.data.convert import ConvertOptions, convert_images, make_record
from caffe_compat.data.database import open_database
from caffe_compat.data.database_mean import compute_mean
from caffe_compat.data.image_list import ImageList
from caffe_compat.data.imagenet import LIST_MD5, Images, find_train, find_valid, list_md5, list_text, paper_subsets
from caffe_compat.data.index_file import write_index_file
from caffe_compat.data.lmdb import LMDBReader
from caffe_compat.data.mean import write_mean
from caffe_compat.data.subset import parse_list_line
from caffe_compat.data.thread_map import usable_cores
from caffe_compat.errors import DataError
from caffe_compat.tools._progress import show_progress

_SAMPLE = 32  # images read for the estimate
_PAGE = 4096  # LMDB keeps a large record in whole pages


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where from, where to, and in what form."""
    parser.add_argument("--root", type=Path, required=True, help="folder with ILSVRC 2012: folders or tar files")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--train_list", type=Path, help="Caffe's train.txt; by default all images by name")
    parser.add_argument("--val_list", type=Path, help="Caffe's val.txt")
    parser.add_argument("--size", type=int, default=256, help="height and width in pixels (default 256)")
    parser.add_argument("--encode_type", default="", help="store as files of this type (jpg: a tenth of the disk)")
    parser.add_argument("--seed", type=int, default=0, help="of the shuffle of the training images (default 0)")
    parser.add_argument("--separate", action="store_true", help="a real LMDB for each subset instead of an index file")
    parser.add_argument("--no_means", action="store_true", help="leave out the mean files")
    parser.add_argument("--estimate", action="store_true", help="print the disk and time needed, and stop")
    parser.add_argument("--threads", type=int, help="threads that decode; by default as many as cores")


def run(args: argparse.Namespace) -> int:
    """Prepare; returns the exit status, 1 when a list differs from the authors'."""
    train, synsets = find_train(args.root, args.train_list)
    valid = find_valid(args.root, synsets, args.val_list)
    subsets = list(paper_subsets(train.lines, valid.lines, len(synsets)))
    print(f"{len(train.lines)} training and {len(valid.lines)} validation images of {len(synsets)} classes")
    options = ConvertOptions(resize_height=args.size, resize_width=args.size, encode_type=args.encode_type)
    _estimate(args, train, valid, subsets, options)
    if args.estimate:
        return 0
    all_equal = _write_lists(args.out / "lists", subsets)
    write_text(args.out / "synsets.txt", list_text(synsets))

    databases = {}
    for kind, images in (("train", train), ("val", valid)):
        path = args.out / f"{kind}_lmdb"
        listed = args.out / "lists" / f"whole.{'train' if kind == 'train' else 'valid'}.txt"
        seed = args.seed if kind == "train" else None
        databases[kind] = _convert(path, ImageList(listed), images, options, seed, args.threads)
    (args.out / "subsets").mkdir(exist_ok=True)
    (args.out / "means").mkdir(exist_ok=True)
    for name, train_lines, valid_lines in subsets:
        for kind, images, lines in (("train", train, train_lines), ("val", valid, valid_lines)):
            if lines is None or name == "whole":
                continue
            target = args.out / "subsets" / f"{name}.{kind}"
            if args.separate:
                listed = args.out / "lists" / f"{name}.{'train' if kind == 'train' else 'valid'}.txt"
                seed = args.seed if kind == "train" else None
                _convert(target, ImageList(listed), images, options, seed, args.threads)
            elif not target.exists():
                _write_index(target, databases[kind], lines)
        if not args.no_means:
            source = databases["train"] if name == "whole" else args.out / "subsets" / f"{name}.train"
            _write_mean(args.out / "means" / f"{name}.binaryproto", source, args.threads)
    print(f"done: {args.out}")
    return 0 if all_equal else 1


def _estimate(
    args: argparse.Namespace,
    train: Images,
    valid: Images,
    subsets: list[tuple[str, list[str], list[str] | None]],
    options: ConvertOptions,
) -> None:
    """Print disk and time, measured on a few images; DataError when the disk is too small."""
    sample = train.lines[:: max(1, len(train.lines) // _SAMPLE)][:_SAMPLE]
    start, size = time.perf_counter(), 0
    for line in sample:
        name, label = parse_list_line(line)
        record = make_record(train.root + name, label, options, train.read)[0]
        size += -(-(len(record) + 16) // _PAGE) * _PAGE
    seconds_each, bytes_each = (time.perf_counter() - start) / len(sample), size / len(sample)
    images = len(train.lines) + len(valid.lines)
    if args.separate:
        images += sum(len(t) + len(v or ()) for name, t, v in subsets if name != "whole")
    need = images * bytes_each
    threads = args.threads or usable_cores()
    place = next(p for p in (args.out, *args.out.absolute().parents) if p.exists())
    free = shutil.disk_usage(place).free + sum(
        f.stat().st_size for f in args.out.glob("**/data.mdb")
    )  # what an earlier run has written is not needed again
    print(
        f"needs about {need / 1e9:.3g} GB of disk ({free / 1e9:.3g} GB free) and "
        f"{images * seconds_each / threads / 3600:.2g} h with {threads} threads, or the time to write that much"
    )
    if need > free and not args.estimate:
        raise DataError(
            f"{args.out}: needs about {need / 1e9:.3g} GB but {free / 1e9:.3g} GB are free; try --encode_type=jpg"
        )


def _write_lists(folder: Path, subsets: list[tuple[str, list[str], list[str] | None]]) -> bool:
    """Write all lists; print how they compare with the authors' and return whether all are equal."""
    folder.mkdir(parents=True, exist_ok=True)
    all_equal = True
    for name, *lists in subsets:
        for kind, lines, expected in zip(("train", "valid"), lists, LIST_MD5.get(name, (None, None)), strict=True):
            if lines is None:
                continue
            write_text(folder / f"{name}.{kind}.txt", list_text(lines))
            found = list_md5(lines)
            equal = found == expected
            all_equal &= equal
            verdict = "equals the authors' list" if equal else f"MD5 {found}, the authors' is {expected}"
            print(f"  {name}.{kind}: {len(lines)} images, {verdict}")
    return all_equal


def _convert(
    path: Path, entries: ImageList, images: Images, options: ConvertOptions, seed: int | None, threads: int | None
) -> Path:
    """Convert unless an earlier run has; a seed shuffles."""
    if path.exists():
        print(f"{path}: there already")
        return path
    order = list(range(len(entries)))
    if seed is not None:
        np.random.RandomState(seed).shuffle(order)
    with show_progress(path.name, len(entries)) as update:
        made = convert_images(
            images.root,
            entries,
            path,
            options,
            order=order,
            report=lambda done, problem: update(done),
            threads=threads,
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


def _write_mean(path: Path, source: Path, threads: int | None) -> None:
    if path.exists():
        return
    database = open_database(source)
    with show_progress(f"mean of {path.stem}", len(database)) as update:
        write_mean(path, compute_mean(database, update, threads))
    database.close()
