"""Convert image files to a database of Datums.

    caffe-compat convert_imageset --resize_height 256 --resize_width 256 --shuffle images/ list.txt train_lmdb

The list has a line `subfolder/file.jpg LABEL` for each image.  Records and keys equal those of Caffe's tool.
"""

import argparse
import secrets
import warnings
from typing import TYPE_CHECKING

from caffe_compat.errors import DataError
from caffe_compat.tools._log import ConvertImagesetLog
from caffe_compat.tools._values import int32, whole

if TYPE_CHECKING:
    from caffe_compat.data.image_list import ImageList

LINES_EVERY = 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Caffe's flags, --seed and --threads."""
    add_record_arguments(parser, "file label")


def add_record_arguments(parser: argparse.ArgumentParser, line: str) -> None:
    """What every command takes that makes records of images; ``line``: the form of the list's lines."""
    parser.add_argument("root_folder", metavar="ROOTFOLDER/", help="what is put before each file name")
    parser.add_argument("list_file", metavar="LISTFILE", help=f"lines of `{line}`")
    parser.add_argument("db_name", metavar="DB_NAME", help="the database to make")
    parser.add_argument("--gray", action="store_true", help="treat images as grayscale ones")
    parser.add_argument("--shuffle", action="store_true", help="randomly shuffle the images")
    parser.add_argument(
        "--backend", default="lmdb", choices=["lmdb", "leveldb"], help="kind of database (default lmdb)"
    )
    parser.add_argument("--resize_width", type=int32, default=0, metavar="N", help="width images are resized to")
    parser.add_argument("--resize_height", type=int32, default=0, metavar="N", help="height images are resized to")
    parser.add_argument("--check_size", action="store_true", help="check that all images have the same size")
    parser.add_argument("--encoded", action="store_true", help="store the image files instead of pixels")
    parser.add_argument("--encode_type", default="", metavar="TYPE", help="store as files of this type (png, jpg, ...)")
    parser.add_argument("--seed", type=whole(0, 2**32 - 1), help="seed of the shuffle; by default a new one each time")
    parser.add_argument("--threads", type=whole(1), help="threads that decode; by default as many as cores")


def run(args: argparse.Namespace) -> int:
    """Convert; returns the exit status."""
    from caffe_compat.data.convert import ConvertOptions, convert_images
    from caffe_compat.data.image_list import ImageList
    from caffe_compat.progress import show_progress

    log = ConvertImagesetLog()
    images = ImageList(args.list_file)
    order = shuffled(len(images), args.seed, log) if args.shuffle else None
    log.total(len(images))
    if args.encode_type and not args.encoded:
        log.assuming_encoded()
    _warn(args, images)
    options = ConvertOptions(
        gray=args.gray,
        resize_height=args.resize_height,
        resize_width=args.resize_width,
        encoded=args.encoded,
        encode_type=args.encode_type,
        check_size=args.check_size,
        backend=args.backend,
    )
    with show_progress("converting", len(images)) as update:

        def report(done: int, problem: DataError | None) -> None:
            update(done)
            if problem is not None:
                log.left_out(problem)
            if done % LINES_EVERY == 0:
                log.progress(done)

        made = convert_images(
            args.root_folder, images, args.db_name, options, order=order, report=report, threads=args.threads
        )
    if made.resumed_at:
        log.went_on(made.resumed_at)
    log.done(len(images), made.skipped)
    return 0


def _warn(args: argparse.Namespace, images: "ImageList") -> None:
    """Of what Caffe's tool takes in silence and the user cannot have meant."""
    if (args.resize_height > 0) != (args.resize_width > 0):
        warnings.warn(
            f"--resize_height is {args.resize_height} and --resize_width {args.resize_width}: nothing is resized, as "
            "in Caffe; give both, or neither",
            stacklevel=2,
        )
    problem = images.label_problem()
    if problem is not None:
        warnings.warn(problem, stacklevel=2)


def shuffled(count: int, seed: int | None, log: ConvertImagesetLog) -> list[int]:
    from caffe_compat.random import CaffeGenerator

    seed = secrets.randbits(32) if seed is None else seed
    log.shuffling(seed)
    order = list(range(count))
    CaffeGenerator(seed).shuffle(order)
    return order
