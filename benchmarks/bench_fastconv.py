"""fast_conv on the CPU, output and both gradients, beside oneDNN (PyTorch) in both layouts and Caffe's own im2col.

    python benchmarks/bench_fastconv.py                     # the five convolutions of CaffeNet, batch 32
    python benchmarks/bench_fastconv.py --model deploy.prototxt --batch 64 --json out.json

"ours" and "ours 4" allow Winograd's tiles of up to 6 and 4; "floor" is the multiplications of the definition at the
peak rate measured in the same run unless --peak names it.  Errors are the largest against float64, relative to the
largest value, on normal numbers.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from floor import measure_rates
from timing import check_found, machine, median_ms, print_table
from torch import Tensor
from torch.nn.functional import conv2d

from caffe_compat.layers.convolution import Convolution
from caffe_compat.ops import ConvWindow, conv  # registers both operators

# input (C, H, W), weight, stride, padding, groups
Shape = tuple[tuple[int, ...], tuple[int, ...], int, int, int]
CAFFENET: dict[str, Shape] = {
    "conv1": ((3, 227, 227), (96, 3, 11, 11), 4, 0, 1),
    "conv2": ((96, 27, 27), (256, 48, 5, 5), 1, 2, 2),
    "conv3": ((256, 13, 13), (384, 256, 3, 3), 1, 1, 1),
    "conv4": ((384, 13, 13), (384, 192, 3, 3), 1, 1, 2),
    "conv5": ((384, 13, 13), (256, 192, 3, 3), 1, 1, 2),
}
TILES = {"ours": 6, "ours 4": 4}
CPU = torch.device("cpu")
Calls = dict[str, Callable[[], Tensor]]


def read_shapes(model: Path) -> dict[str, Shape]:
    """The convolutions of a prototxt with Input layers that have one stride and padding for both axes."""
    from caffe_compat import Net

    net = Net(model, phase="TEST")
    found: dict[str, Shape] = {}
    for name, layer in net.layers.items():
        if type(layer) is Convolution:  # not Deconvolution, its subclass
            _, stride, pad, dilation = layer.window
            if len(stride) != 2 or len({*stride}) > 1 or len({*pad}) > 1 or {*dilation} != {1}:
                print(f"{name}: left out, its strides, paddings or dilations are not equal on two axes")
                continue
            shape = net.blob_shapes[layer.param.bottom[0]][1:]
            found[name] = shape, tuple(layer.blob_shapes[0]), stride[0], pad[0], layer.group
    return found


def make_calls(shape: Shape, batch: int) -> Iterator[tuple[str, Calls, Callable[[], Tensor]]]:
    """Contestants for output, input gradient and weight gradient, and the float64 result."""
    size, weight_size, stride, padding, groups = shape
    x, weight = torch.randn(batch, *size), torch.randn(weight_size)
    window = ConvWindow.per_axis(2, stride=stride, padding=padding, groups=groups)
    dy = torch.randn_like(conv2d(x, weight, None, *window))
    x_last, dy_last = (t.contiguous(memory_format=torch.channels_last) for t in (x, dy))
    ops = torch.ops.caffe_compat

    def backward(x: Tensor, dy: Tensor, weight: Tensor, which: int) -> Tensor:
        mask = [which == 0, which == 1, False]
        results: list[Tensor] = torch.ops.aten.convolution_backward(
            dy, x, weight, None, *window[:3], False, [0, 0], groups, mask
        )
        return results[which]

    yield (
        "output",
        {who: lambda t=t: ops.conv_fast(x_last, weight, None, *window, False, t) for who, t in TILES.items()}
        | {
            "torch": lambda: conv2d(x, weight, None, *window),
            "torch NHWC": lambda: conv2d(x_last, weight, None, *window),
            "Caffe's": lambda: conv(x, weight, None, **window.keywords()),
        },
        lambda: conv2d(x.double(), weight.double(), None, *window),
    )
    if size[0] > 3:  # nobody asks for the image's gradient
        yield (
            "input gradient",
            {
                who: lambda t=t: ops.conv_fast_input_grad(dy_last, weight, *size[1:], *window, t)
                for who, t in TILES.items()
            }
            | {
                "torch": lambda: backward(x, dy, weight, 0),
                "torch NHWC": lambda: backward(x_last, dy_last, weight, 0),
                "Caffe's": lambda: ops.conv_input_grad(dy, weight, *size[1:], *window),
            },
            lambda: backward(x.double(), dy.double(), weight.double(), 0),
        )
    yield (
        "weight gradient",
        {
            who: lambda t=t: ops.conv_fast_weight_grad(dy_last, x_last, *weight_size[2:], *window, t)
            for who, t in TILES.items()
        }
        | {
            "torch": lambda: backward(x, dy, weight, 1),
            "torch NHWC": lambda: backward(x_last, dy_last, weight, 1),
            "Caffe's": lambda: ops.conv_weight_grad(dy, x, *weight_size[2:], *window),
        },
        lambda: backward(x.double(), dy.double(), weight.double(), 1),
    )


def relative_errors(calls: Calls, exact: Tensor) -> dict[str, float]:
    largest = exact.abs().max()
    return {name: ((call().double() - exact).abs().max() / largest).item() for name, call in calls.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--model", type=Path, help="shapes from the convolutions of this prototxt")
    parser.add_argument("--layers", nargs="*", help="only these")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--peak", type=float, help="GFLOP/s for the floor; default: measured")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    arguments = parser.parse_args()

    shapes = read_shapes(arguments.model) if arguments.model else CAFFENET
    check_found(shapes, arguments.model, "convolution")
    peak = arguments.peak or 1e3 * measure_rates(CPU, torch.float32)["tflops"]
    rows: dict[str, dict[str, float]] = {}
    errors: dict[str, dict[str, float]] = {}
    with torch.no_grad():
        for name, shape in shapes.items():
            if arguments.layers and name not in arguments.layers:
                continue
            size, weight_size, stride, padding, _ = shape
            pixels = [(s + 2 * padding - k) // stride + 1 for s, k in zip(size[1:], weight_size[2:], strict=True)]
            products = arguments.batch * pixels[0] * pixels[1] * torch.Size(weight_size).numel()
            for what, calls, _ in make_calls(shape, arguments.batch):
                rows[f"{name} {what}"] = median_ms(calls, CPU, arguments.rounds) | {"floor": 2e-6 * products / peak}
            for what, calls, exact in make_calls(shape, 4):
                errors[f"{name} {what}"] = relative_errors(calls, exact())
    rows["all"] = {who: sum(row[who] for row in rows.values()) for who in next(iter(rows.values()))}
    print(f"peak {peak:.0f} GFLOP/s on {torch.get_num_threads()} threads")
    print_table(f"Convolution, batch {arguments.batch}", rows)
    print("\nLargest error against float64, relative to the largest value")
    for label, row in errors.items():
        print(f"{label:34}" + "  ".join(f"{who} {error:.1e}" for who, error in row.items()))
    if arguments.json:
        results = {"machine": machine(CPU), "peak_gflops": peak, "ms": rows, "relative_error": errors}
        arguments.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
