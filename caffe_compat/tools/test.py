"""Score a net: run it over batches and print every output and its mean.

caffe-compat test --model train_val.prototxt --weights snap_iter_1000.caffemodel --iterations 100 --gpu 0
"""

import argparse
from typing import TYPE_CHECKING

from caffe_compat.errors import NetError
from caffe_compat.solver.log import Score
from caffe_compat.tools._log import CaffeTestLog
from caffe_compat.tools._net_arguments import add_python_layers_argument, add_weights_arguments, reshape_of
from caffe_compat.tools._values import int32

if TYPE_CHECKING:
    from caffe_compat.net import Net


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``caffe test``."""
    parser.add_argument("--model", required=True, metavar="FILE", help="the net's prototxt")
    parser.add_argument("--weights", required=True, metavar="FILE", help="a caffemodel")
    parser.add_argument("--iterations", type=int32, default=50, help="how many batches (default 50)")
    parser.add_argument("--gpu", default="", metavar="N", help="CUDA device; default the CPU")
    parser.add_argument("--level", type=int32, default=0, help="the net's level")
    parser.add_argument("--stage", default="", metavar="A,B", help="the net's stages")
    add_weights_arguments(parser)
    add_python_layers_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Score; returns the exit status."""
    import torch

    from caffe_compat.net import Net
    from caffe_compat.solver.copy_weights import copy_weights
    from caffe_compat.solver.devices import device_of, parse_gpus

    if args.iterations < 1:
        raise NetError(f"--iterations is {args.iterations}; expected at least 1")
    log = CaffeTestLog()
    device = device_of(parse_gpus(args.gpu))
    log.using(device.index)
    stages = [stage for stage in args.stage.split(",") if stage]
    net = Net(
        args.model, phase="TEST", level=args.level, stages=stages, allow_python_layers=args.allow_python_layers
    ).to(device)
    try:
        paths = [path.strip() for path in args.weights.split(",")]
        copy_weights(net, paths, log, strict=args.strict, reshape=reshape_of(args))
        log.running(args.iterations)
        with torch.no_grad():
            score(net, args.iterations, log)
    finally:
        net.close()
    return 0


def score(net: "Net", iterations: int, log: CaffeTestLog) -> list[Score]:
    """Log each batch's outputs, then the mean loss and outputs, which are returned."""
    import torch

    from caffe_compat.solver.evaluation import check_same_size
    from caffe_compat.solver.scores import score_names

    total = [0.0]
    names: list[tuple[str, float]] = []
    loss_total = 0.0
    for batch in range(iterations):
        outputs, loss = net.forward_with_loss()
        names = score_names(net, outputs)
        values = [float(v) for name in net.outputs for v in outputs[name].reshape(-1)]
        check_same_size(net, outputs, torch.tensor(values), torch.tensor(total) if batch else None)
        for (name, _), value in zip(names, values, strict=True):
            log.batch(batch, name, value)
        total = [a + b for a, b in zip(total, values, strict=True)] if batch else values
        loss_total += float(loss)
    scores = [Score(name, sum_ / iterations, weight) for (name, weight), sum_ in zip(names, total, strict=True)]
    log.means(loss_total / iterations, scores)
    return scores
