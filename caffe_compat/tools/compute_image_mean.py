"""Compute the mean image of a database.

caffe-compat compute_image_mean train_lmdb mean.binaryproto
"""

import argparse

from caffe_compat.atomic_file import check_target
from caffe_compat.tools._log import ComputeImageMeanLog
from caffe_compat.tools._values import whole

_LINES_EVERY = 10000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Caffe's arguments, and --threads."""
    parser.add_argument("input_db", metavar="INPUT_DB", help="LMDB, LevelDB or subset's index file")
    parser.add_argument("output_file", metavar="OUTPUT_FILE", nargs="?", help=".binaryproto or .npy file to write")
    parser.add_argument(
        "--backend", default="lmdb", choices=["lmdb", "leveldb"], help="kind of database (default lmdb)"
    )
    parser.add_argument("--threads", type=whole(1), help="threads that decode and add; by default as many as cores")


def run(args: argparse.Namespace) -> int:
    """Compute, write, and print the means of the channels; returns the exit status."""
    import numpy as np

    from caffe_compat.data.database import find_backend, open_database
    from caffe_compat.data.database_mean import compute_mean
    from caffe_compat.data.mean import write_mean
    from caffe_compat.progress import show_progress

    if args.output_file:
        check_target(args.output_file)  # now, and not after an hour
    log = ComputeImageMeanLog()
    found = find_backend(args.input_db)
    if found.lower() != args.backend and found != "SUBSET":
        log.other_backend(args.input_db, found)
    database = open_database(args.input_db)
    log.starting()
    with show_progress("adding", len(database)) as update:
        lines = 0

        def report(done: int) -> None:
            nonlocal lines
            update(done)
            if done // _LINES_EVERY > lines:
                lines = done // _LINES_EVERY
                log.progress(done)

        mean = compute_mean(database, report, args.threads)
    log.done(len(database))
    database.close()
    if args.output_file:
        log.writing(args.output_file)
        write_mean(args.output_file, mean)
    log.channels(len(mean))
    for channel, values in enumerate(mean.reshape(len(mean), -1)):
        total = np.add.accumulate(values, dtype=np.float32)[-1]  # one after another in float32, as Caffe
        log.channel_mean(channel, float(total / np.float32(values.size)))
    return 0
