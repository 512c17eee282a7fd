"""Write blobs of a net, for every image of its data layer, into databases of Datums.

    caffe-compat extract_features net.caffemodel train_val.prototxt fc7 fc7_lmdb 10 lmdb
    caffe-compat extract_features net.caffemodel train_val.prototxt fc7,prob fc7_lmdb,prob_lmdb 10 lmdb GPU DEVICE_ID=1

Keys are the images' numbers with ten digits; the values are Datums with float_data.
"""

import argparse
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

from caffe_compat.errors import DataError, NetError
from caffe_compat.tools._log import ExtractFeaturesLog
from caffe_compat.tools._net_arguments import add_python_layers_argument, add_weights_arguments, reshape_of
from caffe_compat.tools._values import whole

if TYPE_CHECKING:
    from torch import Tensor

    from caffe_compat.net import Net

_DATUM_AXES = 3  # channels, height, width


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of Caffe's ``extract_features``, by position."""
    parser.add_argument("weights", help="a caffemodel")
    parser.add_argument("net", help="prototxt of a net with a data layer")
    parser.add_argument("blobs", help="names of blobs, with commas")
    parser.add_argument("databases", help="databases to make, one for each blob, with commas")
    parser.add_argument("batches", type=whole(1), help="how many batches to run")
    parser.add_argument("db_type", help="lmdb")
    parser.add_argument("mode", nargs="?", default="CPU", choices=["CPU", "GPU"], help="default CPU")
    parser.add_argument("device_id", nargs="?", default="0", help="CUDA device, also as DEVICE_ID=0 (default 0)")
    add_weights_arguments(parser)
    add_python_layers_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Extract; returns the exit status."""
    import torch

    from caffe_compat.net import Net
    from caffe_compat.solver.copy_weights import copy_weights
    from caffe_compat.solver.devices import device_of, parse_gpus

    log = ExtractFeaturesLog()
    blobs, databases = args.blobs.split(","), args.databases.split(",")
    if len(blobs) != len(databases):
        raise DataError(
            f"{len(blobs)} blobs ({args.blobs}) but {len(databases)} databases ({args.databases}); expected one a blob"
        )
    if args.db_type != "lmdb":
        raise DataError(f'db_type is "{args.db_type}"; expected lmdb')
    device_id = args.device_id.removeprefix("DEVICE_ID=")
    device = device_of(parse_gpus(device_id, "DEVICE_ID", "CPU in place of GPU") if args.mode == "GPU" else [])
    log.using(device.index)
    net = Net(args.net, phase="TEST", allow_python_layers=args.allow_python_layers).to(device)
    try:
        copy_weights(net, [args.weights], log, strict=args.strict, reshape=reshape_of(args))
        with torch.no_grad():
            counts = _extract(net, blobs, databases, args.batches, log)
    finally:
        net.close()
    for blob, count in zip(blobs, counts, strict=True):
        log.extracted(count, blob)
    log.done()
    return 0


def _extract(net: "Net", blobs: list[str], databases: list[str], batches: int, log: ExtractFeaturesLog) -> list[int]:
    from caffe_compat.data.datum import encode_datum
    from caffe_compat.data.lmdb import LMDBWriter

    unknown = [blob for blob in blobs if blob not in net.blob_names]
    if unknown:
        raise NetError(f'{net.source}: there is no blob "{unknown[0]}"; there are {", ".join(net.blob_names)}')
    for database in databases:
        log.opening(database)
    counts = [0] * len(blobs)
    with ExitStack() as stack:
        writers = [stack.enter_context(LMDBWriter(database)) for database in databases]
        log.extracting()
        for _ in range(batches):
            values = net.extract(blobs)
            for i, blob in enumerate(blobs):
                for feature in _features(values[blob]):
                    writers[i].put(b"%010d" % counts[i], encode_datum(feature.numpy(), label=None))
                    counts[i] += 1
    return counts


def _features(blob: "Tensor") -> "Iterator[Tensor]":
    """Each image's part of a blob as channels x height x width; missing axes are 1, as Caffe sees old blobs."""
    if blob.dim() > _DATUM_AXES + 1:
        raise NetError(f"a blob of shape {tuple(blob.shape)} does not fit into a Datum; it has at most 4 axes")
    missing = (1,) * (_DATUM_AXES + 1 - blob.dim())
    return iter(blob.float().cpu().reshape(*blob.shape, *missing))
