"""Show what PyTorch knows of the CUDA devices."""

import argparse

import torch

from caffe_compat.solver.devices import parse_gpus
from caffe_compat.solver.log import DeviceQueryLog


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``caffe device_query``."""
    parser.add_argument("--gpu", default="", metavar="LIST", help='device numbers with commas, or "all"')


def run(args: argparse.Namespace) -> int:
    """Print a block for each device asked for; returns the exit status."""
    log = DeviceQueryLog()
    log.querying(args.gpu)
    for number in parse_gpus(args.gpu):
        properties = torch.cuda.get_device_properties(number)
        for name, value in (
            ("Device id:", number),
            ("Major revision number:", properties.major),
            ("Minor revision number:", properties.minor),
            ("Name:", properties.name),
            ("Total global memory:", properties.total_memory),
            ("Number of multiprocessors:", properties.multi_processor_count),
            ("CUDA runtime of PyTorch:", torch.version.cuda),
        ):
            log.fact(name, value)
    return 0
