"""Times every way to compute a net's grouped convolutions and writes the table that caffe_compat.ops.conv_choice reads.

    python benchmarks/tune_conv.py                       # CaffeNet's, batch 256
    python benchmarks/tune_conv.py --model deploy.prototxt --batch 64

One section for each GPU; a run replaces the entries of its own shapes.  Results that differ between the ways by more
than the precision allows stop the run.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from conv_shapes import CAFFENET, OPERATIONS, PRECISIONS, Operands, Shape, read_shapes
from timing import machine, median_ms

from caffe_compat.atomic_file import write_text
from caffe_compat.ops.conv_choice import table_key, table_path
from caffe_compat.ops.conv_paths import PATHS
from caffe_compat.precision import use_precision

# Largest difference from Caffe's own products, relative to the largest value: sums of 50,000 products in weight_grad.
TOLERANCES = {"fp32": 2e-4, "tf32": 1e-2, "bf16": 4e-2}


def candidates(device: torch.device) -> list[str]:
    """The paths worth timing; Caffe's own is the yardstick, never the fastest."""
    return ["ours_nchw", "ours_nhwc", "cudnn", "cudnn_split"] if device.type == "cuda" else ["cudnn", "cudnn_split"]


def check(name: str, operands: Operands, operation: str, precision: str, device: torch.device) -> None:
    """All paths compute the same."""
    exact = operands.calls(PATHS["caffe"])[operation]().double()
    for path in candidates(device):
        result = operands.calls(PATHS[path])[operation]().double()
        error = ((result - exact).abs().max() / exact.abs().max()).item()
        if not error <= TOLERANCES[precision]:
            raise SystemExit(
                f"tune_conv.py: {name} {operation} {precision}: {path} is off by {error:.2e} of the largest value; "
                f"expected at most {TOLERANCES[precision]:g}; nothing was written"
            )


def tune(shapes: dict[str, Shape], batch: int, device: torch.device, rounds: int) -> dict[str, Any]:
    """{key: {"path": the fastest, "ms": {path: median}}}"""
    entries: dict[str, Any] = {}
    for precision in PRECISIONS:
        with use_precision(precision):
            entries |= tune_in(precision, shapes, batch, device, rounds)
    return entries


def tune_in(precision: str, shapes: dict[str, Shape], batch: int, device: torch.device, rounds: int) -> dict[str, Any]:
    """The entries of one precision."""
    entries: dict[str, Any] = {}
    dtype = PRECISIONS[precision]
    for name, shape in shapes.items():
        for channels_last in (False, True):
            # The tensors lie as the caller's do, and the result goes back to that layout: part of the time.
            operands = Operands(shape, batch, device, dtype, channels_last)
            small = Operands(shape, min(batch, 4), device, dtype, channels_last)
            layout = torch.channels_last if channels_last else torch.contiguous_format
            for operation in OPERATIONS:
                check(name, small, operation, precision, device)
                calls = {path: operands.calls(PATHS[path])[operation] for path in candidates(device)}
                keep = torch.contiguous_format if operation == "weight_grad" else layout
                timed = {
                    path: lambda call=call, keep=keep: call().contiguous(memory_format=keep)
                    for path, call in calls.items()
                }
                ms = median_ms(timed, device, rounds)
                fastest = min(ms, key=ms.__getitem__)
                key = table_key(
                    operation,
                    precision,
                    channels_last=channels_last,
                    input=(batch, *shape.input),
                    weight=shape.weight,
                    window=shape.window(),
                )
                entries[key] = {"path": fastest, "ms": {path: round(value, 4) for path, value in ms.items()}}
                print(f"{name:8} {key}: {fastest} " + " ".join(f"{path} {v:.3f}" for path, v in ms.items()))
    return entries


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--model", type=Path, help="shapes from the grouped convolutions of this prototxt")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=table_path(), help="the table (default: where it is read from)")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True
    shapes = read_shapes(arguments.model) if arguments.model else CAFFENET
    about = machine(device)
    table = json.loads(arguments.out.read_text()) if arguments.out.exists() else {"devices": {}}
    entries = tune(shapes, arguments.batch, device, arguments.rounds)
    # On the CPU the operator does not choose: such a section only shows that this script works.
    table["devices"].setdefault(str(about["name"]), {}).update(entries)
    table.setdefault("machines", {})[str(about["name"])] = about
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    write_text(arguments.out, json.dumps(table, indent=1) + "\n")
    print(f"{arguments.out}: {len(entries)} choices for {about['name']}")


if __name__ == "__main__":
    main()
