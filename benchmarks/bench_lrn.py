"""LRN forward and backward: ours beside PyTorch eager, torch.compile, cuDNN (on CUDA) and a copy of the same bytes.

    python benchmarks/bench_lrn.py                      # CaffeNet's norm1 and norm2; batch 32 on the CPU, 256 on CUDA
    python benchmarks/bench_lrn.py --model deploy.prototxt --batch 64 --json out.json

The floors: forward must read and write one tensor each (a copy), backward must read two and write one.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import torch
from timing import Contestants, check_found, machine, median_ms, open_device, print_table
from torch.autograd import grad
from torch.nn.functional import local_response_norm

from caffe_compat.layers.lrn import LRN
from caffe_compat.memory import keep_freed_memory
from caffe_compat.ops import lrn

CAFFENET = {"norm1": (96, 27, 27), "norm2": (256, 13, 13)}
WINDOW = (5, 1e-4, 0.75, 1.0)  # local_size, alpha, beta, k


def read_shapes(model: Path) -> dict[str, tuple[int, ...]]:
    """(C, H, W) of each LRN layer of a prototxt with Input layers."""
    from caffe_compat import Net

    net = Net(model, phase="TEST")
    return {
        name: net.blob_shapes[layer.param.bottom[0]][1:] for name, layer in net.layers.items() if isinstance(layer, LRN)
    }


def cases(shape: tuple[int, ...], device: torch.device, compiled: bool) -> Iterator[tuple[str, Contestants]]:
    """Forward and backward contestants of one shape."""
    x, dy = torch.randn(shape, device=device), torch.randn(shape, device=device)
    x_last, dy_last = (t.contiguous(memory_format=torch.channels_last) for t in (x, dy))
    leaf = x.clone().requires_grad_()
    spare = torch.empty_like(x)
    backward = torch.ops.caffe_compat.lrn_backward
    forwards = {
        "ours": lambda: lrn(x, *WINDOW),
        "ours NHWC": lambda: lrn(x_last, *WINDOW),
        "torch": lambda: local_response_norm(x, *WINDOW),
        "copy": lambda: spare.copy_(x),
    }
    backwards = {
        "ours": lambda: backward(dy, x, *WINDOW, False),
        "ours NHWC": lambda: backward(dy_last, x_last, *WINDOW, False),
        "3-tensor floor": lambda: torch.add(x, dy, out=spare),
    }
    both = {
        "ours": lambda: grad(lrn(leaf, *WINDOW), leaf, dy),
        "torch": lambda: grad(local_response_norm(leaf, *WINDOW), leaf, dy),
    }
    if compiled:
        fast = torch.compile(local_response_norm)
        forwards["torch.compile"] = lambda: fast(x, *WINDOW)
        both["torch.compile"] = lambda: grad(fast(leaf, *WINDOW), leaf, dy)
    if device.type == "cuda":
        from cudnn_lrn import CudnnLrn

        cudnn = CudnnLrn(x, *WINDOW)
        forwards["cuDNN"] = cudnn.forward
        backwards["cuDNN"] = lambda: cudnn.backward(dy)
    yield "forward", forwards
    yield "backward", backwards
    yield "forward + backward", both


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=int, help="default 32 on the CPU, 256 on CUDA")
    parser.add_argument("--model", type=Path, help="shapes from the LRN layers of this prototxt")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    arguments = parser.parse_args()

    device = open_device(arguments.device)
    if device.type == "cpu":
        keep_freed_memory()  # for all contestants: they compute, they do not wait for fresh pages
    batch = arguments.batch or (256 if device.type == "cuda" else 32)
    shapes = read_shapes(arguments.model) if arguments.model else CAFFENET
    check_found(shapes, arguments.model, "LRN layer")
    rows = {
        f"{name} {(batch, *shape)} {what}": median_ms(contestants, device, arguments.rounds)
        for name, shape in shapes.items()
        for what, contestants in cases((batch, *shape), device, not arguments.no_compile)
    }
    for what in ("forward", "backward", "forward + backward"):
        print_table(f"LRN {what}", {label: row for label, row in rows.items() if label.endswith(f") {what}")})
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": machine(device), "ms": rows}, indent=1))


if __name__ == "__main__":
    main()
