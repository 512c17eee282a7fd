"""The kernels of a training step on CUDA with their bytes, FLOPs and the time that follows; needs no GPU.

    python benchmarks/predict_step.py                                  # CaffeNet, batch 256, each precision
    python benchmarks/predict_step.py --precision bf16 --memory 3.35 --bf16 800

The time of an operator is the longer of moving its bytes (each tensor once) and of its arithmetic, at the rates that an
H200 was measured to reach: 3.9 TB/s, and for matrix products 790 TFLOP/s in bf16, 410 in TF32, 51 in float32.  It is a
floor: a library's convolution takes 1.5 to 3 times its arithmetic.  The update is a line of its own; in bf16
it also writes the parameters' copies that the passes read.
"""

import argparse
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

import torch
from bench_train import ROOT, load_net
from step_trace import CASTS, COPIES, Operation, trace_step

from caffe_compat.precision import PRECISIONS, use_precision


@dataclass
class Rates:
    """TB/s of a copy, and TFLOP/s of products by precision."""

    memory: float
    products: dict[str, float]

    def milliseconds(self, operation: Operation, precision: str) -> float:
        """The least time."""
        kind = "tf32" if precision == "fp32" and operation.tf32 else precision
        return 1e3 * max(operation.moved / (self.memory * 1e12), operation.flops / (self.products[kind] * 1e12))


def further_operations(precision: str, parameters: int) -> list[Operation]:
    """What the trace of the passes does not show."""
    copies = 2 * parameters if precision == "bf16" else 0
    return [Operation("update of all parameters", 12 * parameters, 8 * parameters + copies, 0, False, [])]


def print_step(operations: list[Operation], rates: Rates, precision: str, batch: int) -> float:
    """A line for each kind of operator, the sum, and the copies; returns the sum in milliseconds."""
    times: dict[str, float] = defaultdict(float)
    moved, flops, calls = Counter[str](), Counter[str](), Counter[str]()
    for operation in operations:
        times[operation.name] += rates.milliseconds(operation, precision)
        moved[operation.name] += operation.moved
        flops[operation.name] += operation.flops
        calls[operation.name] += 1
    for name, ms in sorted(times.items(), key=lambda item: -item[1]):
        if ms >= 5e-4:
            print(
                f"  {ms:8.3f} ms {calls[name]:4d} x {moved[name] / 1e6:8.1f} MB {flops[name] / 1e9:8.1f} GFLOP  {name}"
            )
    total = sum(times.values())
    copies = [o for o in operations if o.name in COPIES and o.moved > 1 << 20]
    casts = [o for o in operations if o.name in CASTS and o.moved > 1 << 20]
    print(f"  {total:8.3f} ms in all, {1e3 * batch / total:.0f} images/s at most")
    print(f"  copies above 1 MB: {len(copies)}, {sum(o.moved for o in copies) / 1e6:.1f} MB; casts: {len(casts)}")
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=ROOT / "prototxt/caffenet/caffenet_train_val.prototxt")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--precision", choices=PRECISIONS, action="append", help="may be repeated (default: all)")
    parser.add_argument("--memory", type=float, default=3.9, help="TB/s of a copy, read plus written (default 3.9)")
    for name, rate in (("bf16", 790.0), ("tf32", 410.0), ("fp32", 51.0)):
        parser.add_argument(
            f"--{name}", type=float, default=rate, help=f"TFLOP/s of {name} products (default {rate:g})"
        )
    args = parser.parse_args()
    rates = Rates(args.memory, {name: getattr(args, name) for name in PRECISIONS})
    for precision in args.precision or PRECISIONS:
        net = load_net(args.model, args.batch)
        parameters = sum(p.numel() for p in net.parameters())
        with use_precision(precision):
            operations = trace_step(net, torch.bfloat16 if precision == "bf16" else torch.float32)
        print(f"{precision}, batch {args.batch}: computed, not measured")
        print_step([*operations, *further_operations(precision, parameters)], rates, precision, args.batch)


if __name__ == "__main__":
    main()
