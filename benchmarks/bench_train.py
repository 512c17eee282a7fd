"""Training a net: ours, plain and fast, beside torch.nn, eager and compiled, in both layouts; and the floor.

    python benchmarks/bench_train.py                       # CaffeNet, batch 32 on the CPU, 256 on CUDA
    python benchmarks/bench_train.py --model train_val.prototxt --batch 64 --layers --json out.json

All contestants run in one process, in turns, so that a slower or faster minute of the machine hits all of them; the
tables show medians.  The floor is the arithmetic of convolutions and inner products, counted from the shapes, at the
rate of a large product measured in the same run.  On the CPU freed memory stays with the process, as in fast
mode, for all contestants: torch gains by that, too; --plain-malloc leaves the allocator as it is, for all.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from floor import count_flops, measure_rates
from timing import machine, median_ms, open_device
from torch import nn
from torch_twin import torch_modules
from train_contestants import Contestant, Setting, make_contestants

from caffe_compat import Net
from caffe_compat.data.layers.memory_data import MemoryData
from caffe_compat.data.source_layer import SourceLayer
from caffe_compat.memory import keep_freed_memory
from caffe_compat.net.layer_types import layer_types
from caffe_compat.precision import PRECISIONS, use_precision
from caffe_compat.proto import read_net
from caffe_compat.proto.caffe_pb2 import LayerParameter

ROOT = Path(__file__).parent.parent


def load_net(path: Path, batch: int) -> Net:
    """The TRAIN net of a prototxt with Input blobs of ``batch`` images in place of its data layer."""
    param = read_net(path)
    kept = [layer for layer in param.layer if not _is_for_test(layer)]
    crop = next((x.transform_param.crop_size for x in kept if _has_data(x)), 0)
    del param.layer[:]
    if crop:
        source = param.layer.add(name="data", type="Input", top=["data", "label"])
        source.input_param.shape.add(dim=[batch, 3, crop, crop])
        source.input_param.shape.add(dim=[batch])
    param.layer.extend(layer for layer in kept if not _has_data(layer))
    for shape in (shape for layer in param.layer for shape in layer.input_param.shape):
        shape.dim[0] = batch
    return Net(param, phase="TRAIN")


def _has_data(layer: LayerParameter) -> bool:
    return issubclass(layer_types()[layer.type], SourceLayer | MemoryData)


def _is_for_test(layer: LayerParameter) -> bool:
    return any(rule.HasField("phase") and rule.phase == 1 for rule in layer.include)


def bench(args: argparse.Namespace, device: torch.device, precision: str) -> dict[str, Any]:
    """Milliseconds of each contestant, and the floor, in one precision."""
    torch.backends.cudnn.benchmark = True  # for everybody
    net, fast_net = (load_net(args.model, args.batch).to(device) for _ in range(2))
    data = torch.randn(net.blob_shapes["data"], device=device)
    label = torch.randint(0, 10, net.blob_shapes["label"], device=device)
    contestants = make_contestants(net, fast_net, Setting(device, precision, data, label), not args.no_compile)
    left_out = drop_failing(contestants)
    ms = {
        "forward + backward": median_ms({n: c.passes for n, c in contestants.items()}, device, args.rounds),
        "with update": median_ms({n: c.step for n, c in contestants.items()}, device, args.rounds),
    }
    rates = measure_rates(device, torch.bfloat16 if precision == "bf16" else torch.float32)
    gflop = sum(count_flops(net).values()) / 1e9
    return {"ms": ms, "left_out": left_out, **rates, "gflop": gflop, "floor_ms": gflop / rates["tflops"]}


def drop_failing(contestants: dict[str, Contestant]) -> dict[str, str]:
    """Run each once; take out what torch.compile cannot compile here: {name: why}."""
    left_out = {}
    for name in list(contestants):
        try:
            contestants[name].step()
        except Exception as error:
            if not name.startswith("torch.compile"):
                raise
            left_out[name] = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
            del contestants[name]
    return left_out


def bench_layers(args: argparse.Namespace, device: torch.device) -> dict[str, dict[str, float]]:
    """Forward and backward of each layer alone, in float32: ours plain beside torch's module in both layouts."""
    net = load_net(args.model, args.batch).to(device)
    rows = {}
    for step in net.steps:
        layer = step.layer
        modules = [] if layer.is_source else torch_modules(layer)
        if not modules:
            continue
        theirs = nn.Sequential(*modules).to(device)
        for module in modules:
            if isinstance(module, nn.ReLU):
                module.inplace = False  # its input here is a leaf
        trains_input = net.blob_names[step.bottoms[0]] != "data"
        x = torch.randn(net.blob_shapes_in_order[step.bottoms[0]], device=device)
        last = x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else None
        contestants = {
            "ours": both_ways(layer, x, trains_input),
            "torch": both_ways(theirs, x, trains_input),
        }
        if last is not None:
            contestants["torch channels_last"] = both_ways(theirs, last, trains_input)
        rows[layer.name] = median_ms(contestants, device, args.rounds)
    return rows


def both_ways(module: nn.Module, x: torch.Tensor, trains_input: bool) -> Callable[[], None]:
    """A call that runs forward and backward."""
    leaf = x.detach().clone(memory_format=torch.preserve_format).requires_grad_(trains_input)

    def forward() -> torch.Tensor:
        tops: torch.Tensor | tuple[torch.Tensor, ...] = module(leaf)
        return tops[0] if isinstance(tops, tuple) else tops

    grad = torch.randn_like(forward())

    def run() -> None:
        leaf.grad = None
        module.zero_grad(set_to_none=True)
        forward().backward(grad)

    return run


def print_results(results: dict[str, Any]) -> None:
    """The numbers as tables for the terminal."""
    about = results["machine"]
    print(f"{results['model']}, batch {results['batch']}; {about['name']}, {about['threads']} threads")
    for precision, found in results["precisions"].items():
        for part, row in found["ms"].items():
            best = min(ms for name, ms in row.items() if name.startswith("torch"))
            print(f"\n{precision}, {part + ':':<22}{'ms':>10}{'images/s':>12}{'best torch / this':>20}")
            for name, ms in [*row.items(), ("arithmetic floor", found["floor_ms"])]:
                print(f"  {name:<30}{ms:>10.1f}{1e3 * results['batch'] / ms:>12.1f}{best / ms:>20.2f}")
        print(f"  {found['gflop']:.0f} GFLOP at {found['tflops']:.3f} TFLOP/s; copies at {found['copy_gb_s']:.1f} GB/s")
        for name, why in found["left_out"].items():
            print(f"  {name} left out: {why}")
    if results["layers"]:
        print(f"\n{'forward + backward, fp32, ms':<32}{'ours':>10}{'torch':>10}{'channels_last':>16}")
        for name, row in results["layers"].items():
            last = f"{row['torch channels_last']:.2f}" if "torch channels_last" in row else "-"
            print(f"  {name:<30}{row['ours']:>10.2f}{row['torch']:>10.2f}{last:>16}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=ROOT / "prototxt/caffenet/caffenet_train_val.prototxt")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=int, help="images per pass (32 on the CPU, 256 on CUDA)")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--precision", choices=PRECISIONS, action="append", help="may be repeated; all on CUDA, fp32 on the CPU"
    )
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--layers", action="store_true", help="also each layer alone")
    parser.add_argument("--plain-malloc", action="store_true", help="leave the C library's allocator as it is")
    parser.add_argument("--json", type=Path, help="write the numbers here")
    args = parser.parse_args()

    device = open_device(args.device)
    args.batch = args.batch or (256 if device.type == "cuda" else 32)
    kept = device.type == "cpu" and not args.plain_malloc and keep_freed_memory()
    precisions = args.precision or (PRECISIONS if device.type == "cuda" else ("fp32",))
    results: dict[str, Any] = {
        "machine": machine(device),
        "model": args.model.name,
        "batch": args.batch,
        "keep_freed_memory": kept,
        "precisions": {},
        "layers": {},
    }
    for precision in precisions:
        with use_precision(precision):
            results["precisions"][precision] = bench(args, device, precision)
        save(results, args.json)  # what there is, should time run out
    if args.layers:
        results["layers"] = bench_layers(args, device)
        save(results, args.json)
    print_results(results)


def save(results: dict[str, Any], path: Path | None) -> None:
    """Write the numbers, if a file was named."""
    if path is not None:
        path.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
