"""What a call of an operator costs beside its arithmetic: ours beside PyTorch's, on tensors of a few numbers.

    python benchmarks/operator_overhead.py
    python benchmarks/operator_overhead.py --calls 2000 --rounds 21 --json overhead.json

Microseconds a call, on one thread of the CPU by the process's own clock, which other programs disturb less: the forward
pass without and with autograd, and forward and backward together.  Then a training step of LeNet, batch 1, fast mode
beside the same layers in PyTorch.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from pycaffe_costs import lenet
from timing import machine, median_ms
from torch import Tensor, nn
from torch.nn import functional

from caffe_compat import Net, ops

WINDOW = ((2, 2), (2, 2), (0, 0), (2, 2))  # kernel, stride, padding, size of the output


def operators() -> dict[str, tuple[Callable[..., Tensor], Callable[..., Tensor], list[Tensor]]]:
    """{name: (ours, PyTorch's, their arguments)}."""
    image, filters, bias = torch.randn(1, 4, 4, 4), torch.randn(4, 4, 3, 3), torch.randn(4)
    rows, weight = torch.randn(2, 8), torch.randn(4, 8)
    return {
        "lrn": (ops.lrn, lambda x: functional.local_response_norm(x, 5), [image]),
        "max_pool": (lambda x: ops.max_pool(x, *WINDOW), lambda x: functional.max_pool2d(x, 2, 2), [image]),
        "relu_pool_lrn": (
            lambda x: ops.relu_pool_lrn(x, *WINDOW),
            lambda x: functional.local_response_norm(functional.max_pool2d(functional.relu(x), 2, 2), 5),
            [image],
        ),
        "conv": (ops.conv, functional.conv2d, [image, filters, bias]),
        "fast_conv": (ops.fast_conv, functional.conv2d, [image, filters, bias]),
        "linear": (ops.linear, functional.linear, [rows, weight, bias]),
    }


def passes(function: Callable[..., Tensor], arguments: list[Tensor]) -> dict[str, Callable[[], object]]:
    """{what is timed: a call of it}."""
    leaves = [argument.clone().requires_grad_() for argument in arguments]
    ones = torch.ones_like(function(*arguments))

    def forward() -> Tensor:
        with torch.no_grad():
            return function(*arguments)

    return {
        "forward": forward,
        "with autograd": lambda: function(*leaves),
        "and backward": lambda: torch.autograd.grad(function(*leaves), leaves, ones),
    }


class LeNet(nn.Sequential):
    """The net of ``pycaffe_costs.lenet`` in PyTorch."""

    def __init__(self) -> None:
        super().__init__(
            *(nn.Conv2d(1, 20, 5), nn.MaxPool2d(2, 2), nn.Conv2d(20, 50, 5), nn.MaxPool2d(2, 2), nn.Flatten()),
            *(nn.Linear(800, 500), nn.ReLU(), nn.Linear(500, 10)),
        )


def steps() -> dict[str, Callable[[], object]]:
    """Forward and backward of LeNet, batch 1."""
    image, label, module = torch.randn(1, 1, 28, 28), torch.zeros(1), LeNet()
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "lenet.prototxt"
        model.write_text(lenet(1, train=True))
        nets = {"ours": Net(model), "ours fast": Net(model, fast=True)}

    def ours(net: Net) -> None:
        net.zero_grad()
        net.forward_with_loss(data=image, label=label)[1].backward()

    def plain() -> None:
        module.zero_grad()
        functional.cross_entropy(module(image), label.long()).backward()

    return {**{name: partial(ours, net) for name, net in nets.items()}, "torch": plain}


def repeated(call: Callable[[], object], calls: int) -> Callable[[], None]:
    """``call`` so many times."""

    def run() -> None:
        for _ in range(calls):
            call()

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=500, help="in a row, timed together (default 500)")
    parser.add_argument("--rounds", type=int, default=9, help="of which the median counts (default 9)")
    parser.add_argument("--json", type=Path, help="also write the numbers there")
    args = parser.parse_args()
    torch.set_num_threads(1)
    cpu, rows = torch.device("cpu"), {}
    for name, (ours, theirs, arguments) in operators().items():
        for what, call in passes(ours, arguments).items():
            contestants = {"ours": call, "torch": passes(theirs, arguments)[what]}
            rows[f"{name} {what}"] = timed(contestants, args.calls, args.rounds, cpu)
    rows["LeNet step, batch 1"] = timed(steps(), max(1, args.calls // 20), args.rounds, cpu)
    names = ("ours", "torch", "ours fast")
    print(f"{'microseconds a call':32}" + "".join(f"{name:>12}" for name in names))
    for label, row in rows.items():
        print(f"{label:32}" + "".join(f"{row[name]:12.1f}" for name in names if name in row))
    if args.json:
        args.json.write_text(json.dumps({"machine": machine(cpu), "microseconds": rows}, indent=1) + "\n")


def timed(
    contestants: dict[str, Callable[[], object]], calls: int, rounds: int, device: torch.device
) -> dict[str, float]:
    """Microseconds a call of each."""
    runs = {name: repeated(call, calls) for name, call in contestants.items()}
    return {name: 1e3 * ms / calls for name, ms in median_ms(runs, device, rounds, time.process_time).items()}


if __name__ == "__main__":
    main()
