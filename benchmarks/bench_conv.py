"""Grouped convolution, output and both gradients: ours beside PyTorch's (oneDNN or cuDNN), in both layouts.

    python benchmarks/bench_conv.py                     # conv2, conv4, conv5 of CaffeNet
    python benchmarks/bench_conv.py --model deploy.prototxt --batch 64 --json out.json

On CUDA also in TF32 and bfloat16, and the error of each float32 result against float64.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import torch
from timing import Contestants, machine, median_ms, print_table
from torch import Tensor
from torch.nn.functional import conv2d

from caffe_compat.ops import conv

# input (C, H, W), weight, stride, padding, groups
Shape = tuple[tuple[int, ...], tuple[int, ...], int, int, int]
CAFFENET: dict[str, Shape] = {
    "conv2": ((96, 27, 27), (256, 48, 5, 5), 1, 2, 2),
    "conv4": ((384, 13, 13), (384, 192, 3, 3), 1, 1, 2),
    "conv5": ((384, 13, 13), (256, 192, 3, 3), 1, 1, 2),
}


def read_shapes(model: Path) -> dict[str, Shape]:
    """The convolution layers with groups of a prototxt with Input layers."""
    from caffe_compat import Net

    net = Net(model, phase="TEST")
    found: dict[str, Shape] = {}
    for name, layer in net.layers.items():
        if layer.type == "Convolution" and layer.group > 1:
            _, stride, pad, _ = layer.window
            shape = net.blob_shapes[layer.param.bottom[0]][1:]
            found[name] = shape, tuple(layer.blob_shapes[0]), stride[0], pad[0], layer.group
    return found


def cases(shape: Shape, batch: int, device: torch.device, dtype: torch.dtype) -> Iterator[tuple[str, Contestants]]:
    """Contestants for output, input gradient and weight gradient."""
    size, weight_size, stride, padding, groups = shape
    x = torch.randn(batch, *size, device=device, dtype=dtype)
    weight = torch.randn(weight_size, device=device, dtype=dtype) * 0.05
    window = ([stride] * 2, [padding] * 2, [1, 1])
    dy = torch.randn_like(conv2d(x, weight, None, *window, groups))
    ops = torch.ops.caffe_compat

    def torch_backward(x: Tensor, dy: Tensor, mask: list[bool]) -> object:
        return torch.ops.aten.convolution_backward(dy, x, weight, None, *window, False, [0, 0], groups, mask)

    x_last, dy_last = (t.contiguous(memory_format=torch.channels_last) for t in (x, dy))
    yield (
        "output",
        {
            "ours": lambda: conv(x, weight, None, *window, groups),
            "torch": lambda: conv2d(x, weight, None, *window, groups),
            "torch NHWC": lambda: conv2d(x_last, weight, None, *window, groups),
        },
    )
    yield (
        "input gradient",
        {
            "ours": lambda: ops.conv_input_grad(dy, weight, *size[1:], *window, groups),
            "torch": lambda: torch_backward(x, dy, [True, False, False]),
            "torch NHWC": lambda: torch_backward(x_last, dy_last, [True, False, False]),
        },
    )
    yield (
        "weight gradient",
        {
            "ours": lambda: ops.conv_weight_grad(dy, x, *weight_size[2:], *window, groups),
            "torch": lambda: torch_backward(x, dy, [False, True, False]),
            "torch NHWC": lambda: torch_backward(x_last, dy_last, [False, True, False]),
        },
    )


def errors(shape: Shape, device: torch.device) -> dict[str, float]:
    """Largest error of the float32 output against float64, relative to the largest value; batch 4."""
    size, weight_size, stride, padding, groups = shape
    x, weight = torch.randn(4, *size, device=device), torch.randn(weight_size, device=device)
    exact = conv2d(x.double(), weight.double(), None, stride, padding, 1, groups)
    results = {
        "ours": conv(x, weight, None, stride, padding, 1, groups),
        "torch": conv2d(x, weight, None, stride, padding, 1, groups),
    }
    return {name: ((y - exact).abs().max() / exact.abs().max()).item() for name, y in results.items()}


def set_tf32(allow: bool) -> None:
    """For our kernels and for PyTorch's alike."""
    torch.backends.cuda.matmul.allow_tf32 = allow
    torch.backends.cudnn.allow_tf32 = allow


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=int, help="default 32 on the CPU, 256 on CUDA")
    parser.add_argument("--model", type=Path, help="shapes from the grouped convolutions of this prototxt")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    arguments = parser.parse_args()

    device = torch.device(arguments.device)
    batch = arguments.batch or (256 if device.type == "cuda" else 32)
    shapes = read_shapes(arguments.model) if arguments.model else CAFFENET
    precisions = {"fp32": (torch.float32, False)}
    if device.type == "cuda":
        precisions |= {"tf32": (torch.float32, True), "bf16": (torch.bfloat16, True)}
        torch.backends.cudnn.benchmark = True

    tables = {}
    for precision, (dtype, tf32) in precisions.items():
        set_tf32(tf32)
        tables[precision] = {
            f"{name} {what}": median_ms(contestants, device, arguments.rounds)
            for name, shape in shapes.items()
            for what, contestants in cases(shape, batch, device, dtype)
        }
        print_table(f"Grouped convolution, batch {batch}, {precision}", tables[precision])
    set_tf32(False)
    relative = {name: errors(shape, device) for name, shape in shapes.items()}
    for name, row in relative.items():
        print(f"{name}: relative error of fp32 output " + ", ".join(f"{who} {e:.2e}" for who, e in row.items()))
    if arguments.json:
        results = {"machine": machine(device), "ms": tables, "relative_error": relative}
        arguments.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
