"""The miniature net trained on real data in each precision that the device has: loss and accuracy beside fp32's.

    python benchmarks/precision_curves.py --out precision_curves      # writes precision_curves.json and .svg

All runs start from the same weights and see the same batches; one more fp32 run from another seed shows how far two
runs lie apart anyway.  Data: Fashion-MNIST where it is (Debian's dataset-fashion-mnist, or --root), else the rendered
glyphs of reproduce/.  CPU: fp32 and bf16; CUDA: fp32, tf32 and bf16, in fast mode.
"""

import argparse
import io
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from caffe_compat.data.layers.data import Data
from caffe_compat.layers.inner_product import InnerProduct
from caffe_compat.net.layer_types import layer_types

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for reproduce/, where nothing is installed

import numpy as np
import torch
from matplotlib import rc_context
from matplotlib.figure import Figure
from timing import machine, open_device

from caffe_compat import Solver
from caffe_compat.data import write_lmdb
from caffe_compat.data.database_mean import compute_mean
from caffe_compat.data.lmdb import LMDBReader
from caffe_compat.data.mean import write_mean
from caffe_compat.proto import read_net, read_solver
from caffe_compat.solver import Log
from caffe_compat.solver.events import Event, TestEvent, TrainEvent
from reproduce.datasets import glyphs
from reproduce.datasets.fashion_mnist import FASHION_DEBIAN, load_fashion_mnist
from reproduce.images import ArrayImages

ROOT = Path(__file__).resolve().parent.parent
SEED, OTHER_SEED = 1, 2
GLYPHS_PER_CLASS = {"train": 100, "valid": 20}
DISPLAY, AVERAGE, TEST_BATCH = 10, 20, 100
COLOURS = {"fp32": "black", "tf32": "#2980b9", "bf16": "#c0392b", "fp32, another seed": "#aaaaaa"}


class Events(list[Event]):
    """A log's sink that keeps the events."""

    def write(self, event: Event) -> None:
        self.append(event)

    def close(self) -> None:
        pass


def write_data(images: ArrayImages, folder: Path) -> None:
    """LMDBs of both parts, the training one shuffled, and the mean."""
    for part in ("train", "valid"):
        labels = images.labels(part)
        order = np.random.default_rng(0).permutation(len(labels)) if part == "train" else np.arange(len(labels))
        write_lmdb(folder / part, ((f"{n:08d}", images.record(part, int(i), int(labels[i])))
                                   for n, i in enumerate(order)))  # fmt: skip
    write_mean(folder / "mean.binaryproto", compute_mean(LMDBReader(folder / "train")))


def make_net(path: Path, part: str, classes: int, folder: Path, batch: int | None = None) -> Any:
    """A net of prototxt/miniature on our data, with as many classes."""
    net = read_net(path)
    for layer in net.layer:
        if issubclass(layer_types()[layer.type], Data):
            layer.data_param.source, layer.data_param.backend = str(folder / part), layer.data_param.LMDB
            layer.transform_param.mean_file = str(folder / "mean.binaryproto")
            layer.data_param.batch_size = batch or layer.data_param.batch_size
    last = [layer for layer in net.layer if issubclass(layer_types()[layer.type], InnerProduct)][-1]
    last.inner_product_param.num_output = classes
    return net


def train(param: Any, device: torch.device, precision: str, seed: int) -> dict[str, list[tuple[int, float]]]:
    """Losses (smoothed) and test accuracies by iteration."""
    own = type(param)()
    own.CopyFrom(param)
    own.random_seed = seed
    torch.manual_seed(seed)  # dropout on CUDA
    events = Events()
    solver = Solver(own, device=device, log=Log(io.StringIO(), [events]), fast=True, precision=precision)
    try:
        solver.solve()
    finally:
        solver.close()
    losses = [(e.iteration, e.loss) for e in events if isinstance(e, TrainEvent)]
    tests = [(e.iteration, e.output("accuracy")) for e in events if isinstance(e, TestEvent)]
    return {"loss": losses, "accuracy": tests}


def draw(results: dict[str, Any], path: Path) -> None:
    """Loss and accuracy, one line for each run."""
    settings: dict[Any, Any] = {"svg.hashsalt": "caffe_compat", "svg.fonttype": "none", "font.size": 8}
    with rc_context(settings):
        figure = Figure(figsize=(7, 2.8), layout="constrained")
        panels = figure.subplots(1, 2)
        for panel, what in zip(panels, ("loss", "accuracy"), strict=True):
            for name, run in reversed(results["runs"].items()):
                panel.plot(*zip(*run[what], strict=True), label=name, color=COLOURS[name], linewidth=1)
            panel.set_xlabel("iteration")
            panel.set_title(f"training loss, mean of {AVERAGE}" if what == "loss" else "test accuracy", fontsize=9)
            panel.spines[["top", "right"]].set_visible(False)
        panels[1].legend(frameon=False)
        figure.suptitle(f"{results['data']}, miniature net, {results['machine']['device'].upper()}", fontsize=9)
        figure.savefig(path, metadata={"Date": None, "Creator": None})


def main() -> None:
    """Train all, print the ends, write both files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--iterations", type=int, default=600)
    parser.add_argument("--data", choices=["fashion-mnist", "glyphs"], help="default: fashion-mnist where it is")
    parser.add_argument("--root", type=Path, help="folder of Fashion-MNIST's idx files")
    parser.add_argument("--out", type=Path, default=Path("precision_curves"), help="both files, less the ending")
    args = parser.parse_args()

    device = open_device(args.device)
    data = args.data or ("fashion-mnist" if args.root or FASHION_DEBIAN.is_dir() else "glyphs")
    images = load_fashion_mnist(args.root) if data == "fashion-mnist" else glyphs.load(GLYPHS_PER_CLASS)
    nets = ROOT / "prototxt" / "miniature" / data / "base"
    runs = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_data(images, folder)
        param = read_solver(nets / "solver.prototxt")
        for name in ("train_net", "test_net", "device_id", "solver_mode", "test_iter"):
            param.ClearField(name)
        classes = len(images.classes)
        param.train_net_param.CopyFrom(make_net(nets / "train.prototxt", "train", classes, folder))
        param.test_net_param.add().CopyFrom(make_net(nets / "val.prototxt", "valid", classes, folder, TEST_BATCH))
        param.test_iter.append(len(images.labels("valid")) // TEST_BATCH)
        param.max_iter, param.stepsize = args.iterations, max(1, args.iterations * 6 // 10)
        param.display, param.average_loss, param.test_interval = DISPLAY, AVERAGE, max(1, args.iterations // 10)
        param.snapshot, param.snapshot_after_train, param.snapshot_prefix = 0, False, str(folder / "snap")
        for precision in ("fp32", "tf32", "bf16") if device.type == "cuda" else ("fp32", "bf16"):
            runs[precision] = train(param, device, precision, SEED)
        runs["fp32, another seed"] = train(param, device, "fp32", OTHER_SEED)
    results = {"machine": machine(device), "data": data, "iterations": args.iterations, "runs": runs}
    for name, run in runs.items():
        print(f"{name:20} loss at the end {run['loss'][-1][1]:.4f}, test accuracy {run['accuracy'][-1][1]:.4f}")
    args.out.with_suffix(".json").write_text(json.dumps(results, indent=1))
    draw(results, args.out.with_suffix(".svg"))


if __name__ == "__main__":
    main()
