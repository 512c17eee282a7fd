"""InnerProduct on the CPU, its product and both gradients: ours beside PyTorch and the floor.

    python benchmarks/bench_linear.py                      # CaffeNet's fc6, fc7, fc8 at batch 32
    python benchmarks/bench_linear.py --model deploy.prototxt --batch 64 --json out.json

The floor is the larger of two times: the weight's bytes once at the speed of a measured sum (reads) or fill (writes),
and the products at the best speed of a large square product (PyTorch's) and one within the caches (ours).  Gradients go
to new memory, as in training; both sides keep freed memory for it (caffe_compat.memory), as fast mode does.  With
--return-memory they do not, and the system's page faults cost more than the weight gradient's products.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from timing import Contestants, check_found, machine, median_ms, print_table
from torch.nn import functional

from caffe_compat.layers.inner_product import InnerProduct
from caffe_compat.memory import keep_freed_memory
from caffe_compat.ops import linear

CAFFENET = {"fc6": (4096, 9216), "fc7": (4096, 4096), "fc8": (1000, 4096)}  # outputs, inputs
CPU = torch.device("cpu")


def read_shapes(model: Path) -> dict[str, tuple[int, ...]]:
    """(outputs, inputs) of each InnerProduct layer of a prototxt with Input layers."""
    from caffe_compat import Net

    net = Net(model, phase="TEST")
    layers = [layer for layer in net.layers.values() if isinstance(layer, InnerProduct)]
    return {layer.name: (layer.num_output, layer.inputs) for layer in layers}


def fastest(call: Callable[[], object], repeats: int = 5) -> float:
    """Seconds of the fastest of some calls."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def machine_speeds() -> tuple[float, float, float]:
    """Bytes read and bytes written per second, and products per second."""
    large = torch.ones(32 << 20)
    square = torch.randn(2048, 2048)
    reading = large.numel() * 4 / fastest(lambda: large.sum())
    writing = large.numel() * 4 / fastest(lambda: large.fill_(1.0))
    product = torch.empty_like(square)
    large_products = 2048**3 / fastest(lambda: torch.mm(square, square, out=product))
    x, w = torch.randn(256, 1024), torch.randn(256, 1024)
    return reading, writing, max(large_products, 256 * 256 * 1024 / fastest(lambda: linear(x, w), 50))


def cases(batch: int, outputs: int, inputs: int) -> Iterator[tuple[str, Contestants]]:
    """The contestants of one layer."""
    x, dy = torch.randn(batch, inputs), torch.randn(batch, outputs)
    w, b = torch.randn(outputs, inputs) * 0.01, torch.randn(outputs)
    ops = torch.ops.caffe_compat
    leaves = [t.clone().requires_grad_() for t in (x, w, b)]

    def step(function: Callable[..., torch.Tensor]) -> None:
        torch.autograd.grad(function(*leaves), leaves, dy)

    yield "forward", {"ours": lambda: linear(x, w, b), "torch": lambda: functional.linear(x, w, b)}
    yield "input gradient", {"ours": lambda: ops.linear_input_grad(dy, w), "torch": lambda: dy @ w}
    yield "weight gradient", {"ours": lambda: ops.linear_weight_grad(dy, x), "torch": lambda: dy.t() @ x}
    yield "all", {"ours": lambda: step(linear), "torch": lambda: step(functional.linear)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--model", type=Path, help="shapes from the InnerProduct layers of this prototxt")
    parser.add_argument("--return-memory", action="store_true", help="return freed memory to the system, as by default")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    arguments = parser.parse_args()

    kept = not arguments.return_memory and keep_freed_memory()
    shapes = read_shapes(arguments.model) if arguments.model else CAFFENET
    check_found(shapes, arguments.model, "InnerProduct layer")
    reading, writing, products = machine_speeds()
    print(f"reads {reading / 1e9:.1f} GB/s, writes {writing / 1e9:.1f} GB/s, {2 * products / 1e9:.0f} GFLOP/s")
    rows: dict[str, dict[str, float]] = {}
    for name, (outputs, inputs) in shapes.items():
        weight_bytes, work = 4 * outputs * inputs, arguments.batch * outputs * inputs
        read_floor = max(weight_bytes / reading, work / products)
        write_floor = max(weight_bytes / writing, work / products)
        floors = {"forward": read_floor, "input gradient": read_floor, "weight gradient": write_floor}
        floors["all"] = 2 * read_floor + write_floor
        for what, contestants in cases(arguments.batch, outputs, inputs):
            row = median_ms(contestants, CPU, arguments.rounds)
            rows[f"{name} {what}"] = row | {"floor": 1e3 * floors[what]}
    memory = "freed memory kept" if kept else "freed memory returned to the system"
    print_table(f"InnerProduct, batch {arguments.batch}, {memory}", rows)
    if arguments.json:
        report = {"machine": machine(CPU), "batch": arguments.batch, "kept": kept, "ms": rows}
        report |= {"read_bytes_per_s": reading, "written_bytes_per_s": writing, "products_per_s": products}
        arguments.json.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
