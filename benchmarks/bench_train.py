"""Forward and backward of a training net, images per second: ours beside plain torch.nn.

    python benchmarks/bench_train.py                       # CaffeNet, batch 32 on the CPU, 256 on CUDA
    python benchmarks/bench_train.py --model train_val.prototxt --batch 64 --json out.json

All contestants run in one process, in turns, so that a slower or faster minute of the machine hits
all of them; the table shows medians and the ratio to the fastest torch.nn layout.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch_twin import TorchTwin

from caffe_compat import Net
from caffe_compat.precision import PRECISIONS, set_precision
from caffe_compat.proto import read_net

ROOT = Path(__file__).parent.parent
DATA_LAYERS = ("Data", "ImageData", "HDF5Data", "WindowData", "MemoryData")


def load_net(path: Path, batch: int) -> Net:
    """The TRAIN net of a prototxt with its data layer replaced by Input blobs of ``batch`` images."""
    param = read_net(path)
    kept = [layer for layer in param.layer if not _is_for_test(layer)]
    crop = next((x.transform_param.crop_size for x in kept if x.type in DATA_LAYERS), 0)
    del param.layer[:]
    if crop:
        source = param.layer.add(name="data", type="Input", top=["data", "label"])
        source.input_param.shape.add(dim=[batch, 3, crop, crop])
        source.input_param.shape.add(dim=[batch])
    param.layer.extend(layer for layer in kept if layer.type not in DATA_LAYERS)
    return Net(param, phase="TRAIN")


def _is_for_test(layer) -> bool:
    return any(rule.HasField("phase") and rule.phase == 1 for rule in layer.include)


def contestants(net: Net, device: torch.device, with_compile: bool) -> dict[str, Callable[[], None]]:
    """Name -> one forward and backward pass."""
    data = torch.randn(net.blob_shapes["data"], device=device)
    label = torch.randint(0, 10, net.blob_shapes["label"], device=device)
    twin = TorchTwin(net).to(device)
    last = TorchTwin(net).to(device, memory_format=torch.channels_last)
    data_last = data.contiguous(memory_format=torch.channels_last)

    def ours() -> None:
        net.zero_grad(set_to_none=True)
        net.forward_with_loss(data=data, label=label)[1].backward()

    def torch_pass(model: torch.nn.Module, x: torch.Tensor) -> Callable[[], None]:
        def run() -> None:
            model.zero_grad(set_to_none=True)
            model(x, label).backward()

        return run

    runs = {
        "caffe_compat": ours,
        "torch.nn NCHW": torch_pass(twin, data),
        "torch.nn channels_last": torch_pass(last, data_last),
    }
    if with_compile:
        runs["torch.compile"] = torch_pass(torch.compile(twin), data)
    return runs


def measure(runs: dict[str, Callable[[], None]], rounds: int, device: torch.device) -> dict[str, list[float]]:
    """Seconds of each contestant in each round, taken in turns after one warm-up pass."""
    for run in runs.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            _synchronize(device)
            start = time.perf_counter()
            run()
            _synchronize(device)
            times[name].append(time.perf_counter() - start)
    return times


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=ROOT / "prototxt/caffenet/caffenet_train_val.prototxt")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=int, help="images per pass (32 on the CPU, 256 on CUDA)")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32", help="of float32 products on CUDA")
    parser.add_argument("--compile", action="store_true", help="torch.compile as one more contestant")
    parser.add_argument("--json", type=Path, help="write the numbers here")
    args = parser.parse_args()

    set_precision(args.precision)
    device = torch.device(args.device)
    batch = args.batch or (256 if device.type == "cuda" else 32)
    net = load_net(args.model, batch).to(device)
    times = measure(contestants(net, device, args.compile), args.rounds, device)

    medians = {name: statistics.median(t) for name, t in times.items()}
    peer = min(medians["torch.nn NCHW"], medians["torch.nn channels_last"])
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"{platform.processor() or 'CPU'}"
    print(f"{args.model.name}, batch {batch}, {args.precision}, torch {torch.__version__}")
    print(f"{name}, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}")
    print(f"{'forward + backward':<24}{'ms':>10}{'images/s':>12}{'torch / this':>14}")
    for contestant, seconds in medians.items():
        print(f"{contestant:<24}{seconds * 1e3:>10.1f}{batch / seconds:>12.1f}{peer / seconds:>14.2f}")
    if args.json:
        args.json.write_text(
            json.dumps({"model": args.model.name, "batch": batch, "device": name, "seconds": times}, indent=1)
        )


if __name__ == "__main__":
    main()
