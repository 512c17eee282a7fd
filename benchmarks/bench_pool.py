"""The chain ReLU, max pooling, LRN: ours in one operator beside ours one by one, PyTorch eager, torch.compile, a copy.

    python benchmarks/bench_pool.py                     # CaffeNet's chains; batch 32 on the CPU, 256 on CUDA
    python benchmarks/bench_pool.py --model deploy.prototxt --batch 64 --json out.json

"one by one" is one operator of ours for each layer.  The floor is a copy of the least bytes that a chain must move:
forward the input, the output, with LRN also the pooled values, and one byte for each of them; backward the same tensors
the other way.
"""

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from timing import Contestants, check_found, machine, median_ms, open_device, print_table
from torch import Tensor, nn

from caffe_compat.memory import keep_freed_memory
from caffe_compat.ops import lrn, max_pool, relu_pool_lrn

Pair = tuple[int, int]
Window = tuple[int, float, float, float]  # local_size, alpha, beta, k
NORM = ("local_size", "alpha", "beta", "k")
USUAL_LRN = (5, 1e-4, 0.75, 1.0)


@dataclass(frozen=True)
class Chain:
    """ReLU, max pooling and, where ``lrn`` is given, LRN."""

    shape: tuple[int, ...]  # (C, H, W)
    out_size: Pair
    lrn: Window | None = USUAL_LRN
    kernel: Pair = (3, 3)
    stride: Pair = (2, 2)
    padding: Pair = (0, 0)

    def window(self) -> tuple[Pair, Pair, Pair, Pair]:
        return self.kernel, self.stride, self.padding, self.out_size

    def torch_modules(self) -> nn.Module:
        """As a PyTorch user would write it."""
        modules = [nn.ReLU(), nn.MaxPool2d(self.kernel, self.stride, self.padding, ceil_mode=True)]
        return nn.Sequential(*modules, *([nn.LocalResponseNorm(*self.lrn)] if self.lrn else []))


CAFFENET = {
    "relu1 pool1 norm1": Chain((96, 55, 55), (27, 27)),
    "relu2 pool2 norm2": Chain((256, 27, 27), (13, 13)),
    "relu5 pool5": Chain((256, 13, 13), (6, 6), None),
}


def read_chains(model: Path) -> dict[str, Chain]:
    """The chains that the net's fast mode runs as one, of a prototxt with Input layers."""
    from caffe_compat import Net
    from caffe_compat.net.chains import PoolChain, find_chains

    net = Net(model, phase="TEST")
    shapes = net.blob_shapes_in_order
    found = {}
    for unit in find_chains(net.steps):
        if not isinstance(unit, PoolChain) or not unit.relu:
            continue
        shape = shapes[unit.steps[0].bottoms[0]]
        window = unit.pooling.max_pool_window(torch.empty(shape, device="meta"))
        if window is not None:
            kernel, stride, padding, out_size = window
            norm = (unit.lrn.local_size, unit.lrn.alpha, unit.lrn.beta, unit.lrn.k) if unit.lrn else None
            name = " ".join(step.layer.name for step in unit.steps)
            found[name] = Chain(shape[1:], pair(out_size), norm, pair(kernel), pair(stride), pair(padding))
    return found


def pair(sizes: tuple[int, ...]) -> Pair:
    height, width = sizes
    return height, width


def in_both_layouts(tensor: Tensor) -> tuple[Tensor, Tensor]:
    return tensor, tensor.contiguous(memory_format=torch.channels_last)


def cases(chain: Chain, batch: int, device: torch.device, compiled: bool) -> Iterator[tuple[str, Contestants]]:
    """Forward and backward contestants of one chain."""
    x, x_last = in_both_layouts(torch.randn((batch, *chain.shape), device=device))
    dy, dy_last = in_both_layouts(torch.randn((batch, chain.shape[0], *chain.out_size), device=device))
    leaf, leaf_last = x.clone().requires_grad_(), x_last.clone().requires_grad_()
    window, norm = chain.window(), chain.lrn
    eager = chain.torch_modules()
    ops = torch.ops.caffe_compat
    fused: Callable[[Tensor], Tensor]
    one_by_one: Callable[[Tensor], Tensor]
    grads: Callable[[Tensor, Sequence[Tensor]], object]
    if norm:
        options: dict[str, Any] = dict(zip(NORM, norm, strict=True))
        fused = lambda t: relu_pool_lrn(t, *window, **options)  # noqa: E731
        one_by_one = lambda t: lrn(max_pool(torch.relu(t), *window), *norm)  # noqa: E731
        whole = ops.relu_pool_lrn
        kept, kept_last = (whole(t, *window, True, *norm)[1:] for t in (x, x_last))
        tail = (*chain.shape[1:], *window[:3], *norm)
        grads = lambda g, saved: ops.relu_pool_lrn_backward(g, *saved, *tail)  # noqa: E731
    else:
        fused = lambda t: max_pool(t, *window, relu=True)  # noqa: E731
        one_by_one = lambda t: max_pool(torch.relu(t), *window)  # noqa: E731
        kept, kept_last = (ops.max_pool(t, *window, True)[1:] for t in (x, x_last))
        tail = (*chain.shape[1:], *window[:3])
        grads = lambda g, saved: ops.max_pool_backward(g, *saved, *tail)  # noqa: E731
    with torch.no_grad():
        assert torch.allclose(fused(x), eager(x), atol=1e-5), "ours and torch's modules differ"
    # The same bytes forward and backward: the input or its gradient, output, pooled values, taps.
    moved = x.nbytes + dy.nbytes * (2 if norm else 1) + dy.numel()
    source = torch.empty(moved // 2, dtype=torch.uint8, device=device)
    spare = torch.empty_like(source)
    copy = lambda: spare.copy_(source)  # noqa: E731
    forwards = {
        "ours": lambda: fused(x),
        "ours NHWC": lambda: fused(x_last),
        "one by one": lambda: one_by_one(x),
        "torch": lambda: eager(x),
        "torch NHWC": lambda: eager(x_last),
        "copy": copy,
    }
    backwards = {"ours": lambda: grads(dy, kept), "ours NHWC": lambda: grads(dy_last, kept_last), "copy": copy}
    both = {
        "ours": lambda: fused(leaf).backward(dy),
        "ours NHWC": lambda: fused(leaf_last).backward(dy_last),
        "one by one": lambda: one_by_one(leaf).backward(dy),
        "torch": lambda: eager(leaf).backward(dy),
        "torch NHWC": lambda: eager(leaf_last).backward(dy_last),
    }
    if compiled:
        fast = torch.compile(eager)
        forwards["torch.compile"] = lambda: fast(x)
        both["torch.compile"] = lambda: fast(leaf).backward(dy)
    yield "forward", forwards
    yield "backward", backwards
    yield "forward + backward", both


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=int, help="default 32 on the CPU, 256 on CUDA")
    parser.add_argument("--model", type=Path, help="the chains of this prototxt")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    arguments = parser.parse_args()

    device = open_device(arguments.device)
    if device.type == "cpu":
        keep_freed_memory()  # for all contestants: they compute, they do not wait for fresh pages
    batch = arguments.batch or (256 if device.type == "cuda" else 32)
    chains = read_chains(arguments.model) if arguments.model else CAFFENET
    check_found(chains, arguments.model, "chain of ReLU and max pooling")
    rows = {
        f"{name} {(batch, *chain.shape)} {what}": median_ms(contestants, device, arguments.rounds)
        for name, chain in chains.items()
        for what, contestants in cases(chain, batch, device, not arguments.no_compile)
    }
    for what in ("forward", "backward", "forward + backward"):
        table = {label.removesuffix(f" {what}"): row for label, row in rows.items() if label.endswith(f") {what}")}
        print_table(f"Chain {what}", table)
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": machine(device), "ms": rows}, indent=1))


if __name__ == "__main__":
    main()
