"""Make the LMDBs, subsets and mean files of the paper from ILSVRC 2012.

    caffe-compat prepare_imagenet --root ILSVRC2012 --out DIR

DIR gets train_lmdb (shuffled) and val_lmdb, 256x256 pixels each; in lists/ the lists, compared with the authors'
MD5s; in subsets/ an index file for each half and reduced set, which a Data layer takes as its source; in means/ the
mean of each training set.  Started again, it goes on where it stopped.  Exit status 1 says that all is there, but
that a list differs from the authors', as those of other images do.
"""

import argparse
from pathlib import Path

from caffe_compat.tools._values import whole


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where from, where to, and in what form."""
    parser.add_argument("--root", type=Path, required=True, help="folder with ILSVRC 2012: folders or tar files")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--train_list", type=Path, help="Caffe's train.txt; by default all images by name")
    parser.add_argument("--val_list", type=Path, help="Caffe's val.txt")
    parser.add_argument("--size", type=whole(1, 65535), default=256, help="height and width in pixels (default 256)")
    parser.add_argument("--encode_type", default="", help="store as files of this type (jpg: a tenth of the disk)")
    parser.add_argument(
        "--seed", type=whole(0, 2**32 - 1), default=0, help="of the shuffle of the training images (default 0)"
    )
    parser.add_argument("--separate", action="store_true", help="a real LMDB for each subset instead of an index file")
    parser.add_argument("--no_means", action="store_true", help="leave out the mean files")
    parser.add_argument("--estimate", action="store_true", help="print the disk and time needed, and stop")
    parser.add_argument("--threads", type=whole(1), help="threads that decode; by default as many as cores")


def run(args: argparse.Namespace) -> int:
    """Prepare; returns the exit status, 1 when a list differs from the authors'."""
    from reproduce.imagenet.prepare import Preparation, prepare_imagenet

    job = Preparation(
        root=args.root,
        out=args.out,
        train_list=args.train_list,
        val_list=args.val_list,
        size_px=args.size,
        encode_type=args.encode_type,
        seed=args.seed,
        separate=args.separate,
        means=not args.no_means,
        threads=args.threads,
    )
    return 0 if prepare_imagenet(job, only_estimate=args.estimate) else 1
