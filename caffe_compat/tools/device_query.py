"""Show what PyTorch knows of the CUDA devices.

caffe-compat device_query --gpu all
caffe-compat device_query --gpu 0 --json
"""

import argparse
import json

from caffe_compat.tools._log import DeviceQueryLog


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``caffe device_query``."""
    parser.add_argument("--gpu", default="", metavar="LIST", help='device numbers with commas, or "all"')
    parser.add_argument("--json", action="store_true", help="print JSON, too (the log goes to stderr)")


def run(args: argparse.Namespace) -> int:
    """Print a block for each device asked for; returns the exit status."""
    import torch

    from caffe_compat.solver.devices import parse_gpus

    log = DeviceQueryLog()
    log.querying(args.gpu)
    devices = []
    for number in parse_gpus(args.gpu, cpu=""):
        properties = torch.cuda.get_device_properties(number)
        facts = {
            "Device id": number,
            "Major revision number": properties.major,
            "Minor revision number": properties.minor,
            "Name": properties.name,
            "Total global memory": properties.total_memory,
            "Number of multiprocessors": properties.multi_processor_count,
            "CUDA runtime of PyTorch": torch.version.cuda,
        }
        for name, value in facts.items():
            log.fact(f"{name}:", value)
        devices.append(facts)
    if args.json:
        print(json.dumps(devices, indent=2))
    return 0
