"""Time a net layer by layer, forward and backward.

caffe-compat time --model deploy.prototxt --phase TEST --iterations 20
caffe-compat time --model train_val.prototxt --gpu 0 --json > times.json
"""

import argparse
import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from caffe_compat.errors import NetError
from caffe_compat.tools._log import CaffeTimeLog
from caffe_compat.tools._net_arguments import (
    add_python_layers_argument,
    add_shape_argument,
    add_weights_arguments,
    reshape_of,
)
from caffe_compat.tools._values import int32

if TYPE_CHECKING:
    import torch

    from caffe_compat.net import Net


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``caffe time``."""
    parser.add_argument("--model", required=True, metavar="FILE", help="the net's prototxt")
    parser.add_argument("--weights", default="", metavar="FILE", help="a caffemodel; default the fillers' values")
    parser.add_argument("--iterations", type=int32, default=50, help="how many passes (default 50)")
    parser.add_argument("--gpu", default="", metavar="N", help="CUDA device; default the CPU")
    parser.add_argument("--phase", default="TRAIN", choices=["TRAIN", "TEST"], help="default TRAIN")
    parser.add_argument("--level", type=int32, default=0, help="the net's level")
    parser.add_argument("--stage", default="", metavar="A,B", help="the net's stages")
    add_shape_argument(parser)
    add_weights_arguments(parser)
    add_python_layers_argument(parser)
    parser.add_argument("--json", action="store_true", help="print the times as JSON, too (the log goes to stderr)")


def run(args: argparse.Namespace) -> int:
    """Time the net; returns the exit status."""
    from caffe_compat.solver.copy_weights import copy_weights
    from caffe_compat.solver.devices import device_of, parse_gpus
    from caffe_compat.tools._looking import look_at

    if args.iterations < 1:
        raise NetError(f"--iterations is {args.iterations}; expected at least 1")
    log = CaffeTimeLog()
    device = device_of(parse_gpus(args.gpu))
    log.using(device.index)
    net = look_at(args.model, args).net().to(device)
    try:
        if args.weights:
            copy_weights(net, [args.weights], log, strict=args.strict, reshape=reshape_of(args))
        times = time_layers(net, args.iterations, log)
    finally:
        net.close()
    if args.json:
        layers = [{"name": name, "forward_ms": forward, "backward_ms": backward} for name, forward, backward in times]
        print(json.dumps({"iterations": args.iterations, "layers": layers}, indent=2))
    return 0


def time_layers(net: "Net", iterations: int, log: CaffeTimeLog) -> list[tuple[str, float, float]]:
    """Run ``iterations`` passes layer by layer and log the mean times in ms, as Caffe prints them.

    Returns them: (layer, forward, backward).
    """
    from caffe_compat.net.blob_engine import BlobEngine

    engine = BlobEngine(net)
    log.performing_forward()
    log.performing_backward(engine.forward())
    engine.backward()
    numbers = range(len(net.steps))
    forward_ms, backward_ms = [0.0] * len(numbers), [0.0] * len(numbers)
    log.begins(iterations)
    start = time.perf_counter()
    for iteration in range(iterations):
        before = sum(forward_ms) + sum(backward_ms)
        for number in numbers:
            forward_ms[number] += _elapsed_ms(engine.forward_layer, number, net.device)
        for number in reversed(numbers):
            backward_ms[number] += _elapsed_ms(engine.backward_layer, number, net.device)
        wall_ms = sum(forward_ms) + sum(backward_ms) - before
        log.iteration(iteration + 1, wall_ms)
    total_ms = (time.perf_counter() - start) * 1000
    means = [
        (step.layer.name, forward_ms[n] / iterations, backward_ms[n] / iterations) for n, step in enumerate(net.steps)
    ]
    log.layers(means)
    log.ends(sum(forward_ms) / iterations, sum(backward_ms) / iterations, total_ms=total_ms, iterations=iterations)
    return means


def _elapsed_ms(work: Callable[[int], object], number: int, device: "torch.device") -> float:
    _wait(device)
    start = time.perf_counter()
    work(number)
    _wait(device)
    return (time.perf_counter() - start) * 1000


def _wait(device: "torch.device") -> None:
    if device.type == "cuda":
        import torch

        torch.cuda.synchronize(device)
