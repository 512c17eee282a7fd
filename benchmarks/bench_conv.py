"""Grouped convolution, output and both gradients: ours beside PyTorch's (oneDNN or cuDNN), torch.compile and the floor.

    python benchmarks/bench_conv.py                     # conv2, conv4, conv5 of CaffeNet
    python benchmarks/bench_conv.py --model deploy.prototxt --batch 64 --json out.json

On CUDA in fp32, TF32 and bfloat16, each with its error against float64.  ``split`` cuts the channels into groups, runs
a dense convolution for each and joins the results; ``parts`` is the same without cutting and joining, for nets that
never join.  ``floor`` copies as many bytes as the call must move.
"""

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from conv_shapes import CAFFENET, OPERATIONS, PRECISIONS, Operands, Shape, read_shapes
from timing import Contestants, check_found, machine, median_ms, open_device, print_table
from torch import Tensor

from caffe_compat.ops.conv import conv
from caffe_compat.ops.conv_paths import PATHS
from caffe_compat.ops.conv_paths import Path as ConvPath
from caffe_compat.precision import use_precision

ERROR_BATCH = 4

OPERATOR = ConvPath(
    lambda input, weight, bias, window, relu: conv(input, weight, bias, **window.keywords(), relu=relu),
    lambda grad, weight, size, window: torch.ops.caffe_compat.conv_input_grad(grad, weight, *size, *window),
    lambda grad, input, kernel, window: torch.ops.caffe_compat.conv_weight_grad(grad, input, *kernel, *window),
)


def our_paths(device: torch.device) -> dict[str, tuple[ConvPath, bool]]:
    """Path and whether its tensors are channels_last; ``ours`` is the operator, which on CUDA chooses its path."""
    if device.type == "cuda":
        kernels = {"kernel NCHW": (PATHS["ours_nchw"], False), "kernel NHWC": (PATHS["ours_nhwc"], True)}
        return {"ours": (OPERATOR, True), **kernels}
    return {"ours": (OPERATOR, False)}


def torch_paths() -> dict[str, tuple[ConvPath, bool]]:
    return {
        "torch NCHW": (PATHS["cudnn"], False),
        "torch NHWC": (PATHS["cudnn"], True),
        "split NHWC": (PATHS["cudnn_split"], True),
    }


def compiled() -> ConvPath:
    """PyTorch's convolution as torch.compile makes it."""
    torch.compiler.reset()
    return ConvPath(*(torch.compile(function) for function in PATHS["cudnn"]))


def part_calls(shape: Shape, batch: int, device: torch.device, dtype: torch.dtype) -> dict[str, Callable[[], object]]:
    """One dense convolution for each group, on tensors of its own."""
    outputs, channels, *kernel = shape.weight
    dense = Shape(
        (channels, *shape.input[1:]), (outputs // shape.groups, channels, *kernel), shape.stride, shape.padding, 1
    )
    parts = [Operands(dense, batch, device, dtype, True).calls(PATHS["cudnn"]) for _ in range(shape.groups)]

    def one_by_one(name: str) -> Callable[[], object]:
        return lambda: [part[name]() for part in parts]

    return {name: one_by_one(name) for name in OPERATIONS}


def floor_call(operands: Operands) -> Callable[[], Tensor]:
    """A copy that reads and writes half of the bytes of the three tensors each."""
    tensors = (operands.x, operands.weight, operands.dy)
    half = torch.empty(
        sum(t.numel() * t.element_size() for t in tensors) // 2, dtype=torch.uint8, device=operands.x.device
    )
    return half.clone


def cases(shape: Shape, batch: int, device: torch.device, dtype: torch.dtype, compile: bool) -> dict[str, Contestants]:
    """{operation: contestants}"""
    layouts = [Operands(shape, batch, device, dtype, channels_last) for channels_last in (False, True)]
    paths = our_paths(device) | torch_paths()
    if compile:
        paths["compile"] = (compiled(), True)
    calls: dict[str, Mapping[str, Callable[[], object]]] = {
        name: layouts[channels_last].calls(path) for name, (path, channels_last) in paths.items()
    }
    calls["parts NHWC"] = part_calls(shape, batch, device, dtype)
    floor = floor_call(layouts[0])
    return {what: {name: call[what] for name, call in calls.items()} | {"floor": floor} for what in OPERATIONS}


def errors(shape: Shape, device: torch.device, dtype: torch.dtype) -> dict[str, dict[str, float]]:
    """{operation: {who: largest error against float64, relative to the largest value}}"""
    found: dict[str, dict[str, float]] = {what: {} for what in OPERATIONS}
    for name, (path, channels_last) in (our_paths(device) | torch_paths()).items():
        operands = Operands(shape, ERROR_BATCH, device, dtype, channels_last)
        exact = Operands(shape, ERROR_BATCH, device, dtype, channels_last)
        exact.x, exact.weight, exact.dy = (t.double() for t in (operands.x, operands.weight, operands.dy))
        for what in OPERATIONS:
            expected = exact.calls(PATHS["cudnn"])[what]()
            result = operands.calls(path)[what]().double()
            found[what][name] = ((result - expected).abs().max() / expected.abs().max()).item()
    return found


def print_summary(tables: dict[str, dict[str, dict[str, float]]]) -> None:
    """One column for each precision: ours, and how many times as long PyTorch's grouped convolution takes."""
    print("\nours, median ms (torch's better layout takes so many times as long)")
    print(f"{'':34}" + "".join(f"{precision:>22}" for precision in tables))
    for row in next(iter(tables.values())):
        cells = []
        for table in tables.values():
            best = min(table[row]["torch NCHW"], table[row]["torch NHWC"])
            cells.append(f"{table[row]['ours']:.3f} ({best / table[row]['ours']:.2f})")
        print(f"{row:34}" + "".join(f"{cell:>22}" for cell in cells))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=int, help="default 32 on the CPU, 256 on CUDA")
    parser.add_argument("--model", type=Path, help="shapes from the grouped convolutions of this prototxt")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--no-compile", action="store_true", help="without torch.compile, which takes a while to warm up"
    )
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    arguments = parser.parse_args()

    device = open_device(arguments.device)
    batch = arguments.batch or (256 if device.type == "cuda" else 32)
    shapes = read_shapes(arguments.model) if arguments.model else CAFFENET
    check_found(shapes, arguments.model, "grouped convolution")
    precisions = PRECISIONS if device.type == "cuda" else {"fp32": PRECISIONS["fp32"]}
    torch.backends.cudnn.benchmark = True

    tables: dict[str, dict[str, dict[str, float]]] = {}
    relative: dict[str, dict[str, dict[str, float]]] = {}
    for precision, dtype in precisions.items():
        with use_precision(precision):
            tables[precision], relative[precision] = {}, {}
            for name, shape in shapes.items():
                for what, contestants in cases(shape, batch, device, dtype, not arguments.no_compile).items():
                    tables[precision][f"{name} {what}"] = median_ms(contestants, device, arguments.rounds)
                for what, row in errors(shape, device, dtype).items():
                    relative[precision][f"{name} {what}"] = row
            print_table(f"Grouped convolution, batch {batch}, {precision}", tables[precision])
            print(f"Error against float64, of the largest value, batch {ERROR_BATCH}")
            for row_name, row in relative[precision].items():
                print(f"{row_name:34}" + ", ".join(f"{who} {error:.2e}" for who, error in row.items()))
    print_summary(tables)
    if arguments.json:
        gigaflop = {name: shape.gigaflop(batch) for name, shape in shapes.items()}
        results = {
            "machine": machine(device),
            "batch": batch,
            "gigaflop": gigaflop,
            "ms": tables,
            "relative_error": relative,
        }
        arguments.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
