"""Running nets forward: ours plain, fast and for_inference(), beside onnxruntime, OpenCV and torch.compile.

    python benchmarks/bench_inference.py                                          # all nets, batch 1 and 8
    python benchmarks/bench_inference.py --nets CaffeNet MobileNet --batch 1 --rounds 20 --json out.json
    python benchmarks/bench_inference.py --opencv /some/venv/bin/python           # one that has opencv-python < 5
    nice -n -5 python benchmarks/bench_inference.py --threads 2               # on a machine that does other work too

The nets are made by inference_nets.py, with random weights.  onnxruntime runs our own export.  All contestants take
turns: in each round each runs a few times, and the best of these counts; a table shows the least of all rounds (what
the machine can do) and ratios by the least and by the median.  OpenCV runs in its own process, which is told when its
turn comes.  What is not there is left out, and said.  Outputs are compared with the plain net's.
"""

import argparse
import contextlib
import importlib.util
import json
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from inference_nets import NETS
from timing import machine
from torch import Tensor

from caffe_compat import Net
from caffe_compat.layers.batch_norm import BatchNorm
from caffe_compat.layers.scale import Scale
from caffe_compat.proto import parse_net

Contestant = Callable[[], dict[str, np.ndarray] | None]
OURS = "for_inference"
ONNXRUNTIME, OPENCV, COMPILED = "onnxruntime", "OpenCV", "torch.compile"
#: a turn is as many runs, and goes on for so many seconds: the first warm the caches and wake the threads
FEWEST_RUNS, TURN_S = 4, 0.1
#: seconds before a turn: onnxruntime's threads wait for more work on a processor of their own for some 50 milliseconds
REST_S = 0.2

#: an OpenCV process: reads "prototxt caffemodel input.npy threads", then a line for each run; answers with milliseconds
OPENCV_WORKER = """
import sys, time
import cv2, numpy
prototxt, weights, images, threads = sys.stdin.readline().rstrip("\\n").split("\\t")
cv2.setNumThreads(int(threads))
net = cv2.dnn.readNetFromCaffe(prototxt, weights)
x = numpy.load(images)
names = net.getUnconnectedOutLayersNames()
def run():
    start = time.perf_counter()
    net.setInput(x)
    tops = net.forward(names)
    return 1e3 * (time.perf_counter() - start), tops
tops = run()[1]
numpy.savez(images + ".out.npz", **dict(zip(names, tops)))
print(cv2.__version__, flush=True)
for line in sys.stdin:
    print(run()[0], flush=True)
"""


def make_net(name: str, batch: int) -> Net:
    """The TEST net with random weights, and statistics that keep the blobs' sizes."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = Net(parse_net(NETS[name](batch)), phase="TEST")
    with torch.no_grad():
        for layer in net.layers.values():
            if isinstance(layer, BatchNorm):
                layer.blob(0).normal_(0, 0.1)
                layer.blob(1).uniform_(0.5, 1.5)
                layer.blob(2).fill_(1)
            elif isinstance(layer, Scale):
                layer.blob(0).uniform_(0.5, 1)
                layer.blob(1).normal_(0, 0.1)
            elif layer.blobs:
                torch.nn.init.kaiming_normal_(layer.blobs[0])
    return net


class OpenCV:
    """Another interpreter's cv2.dnn, run by run."""

    def __init__(self, python: str, files: list[Path], threads: int) -> None:
        """``files``: prototxt, caffemodel, images."""
        self._process = subprocess.Popen(
            [python, "-c", OPENCV_WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.version = self._ask("\t".join([*map(str, files), str(threads)]))
        self.outputs = dict(np.load(f"{files[2]}.out.npz"))

    def _ask(self, line: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(line, file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline().strip()
        if not answer:
            raise RuntimeError(f"the OpenCV process ended (status {self._process.wait()})")
        return answer

    def run_ms(self) -> float:
        """One forward pass."""
        return float(self._ask("run"))

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def our_contestants(net: Net, fast: Net, images: Tensor, compiled: bool) -> dict[str, Contestant]:
    """``net`` plain and folded; ``fast``, a net like it, in fast mode."""
    fast.fast = True
    folded = net.for_inference()

    def numpy_of(tops: dict[str, Tensor]) -> dict[str, np.ndarray]:
        return {blob: top.numpy() for blob, top in tops.items()}

    found: dict[str, Contestant] = {
        "plain": lambda: numpy_of(net(images)),
        "fast": lambda: numpy_of(fast(images)),
        OURS: lambda: numpy_of(folded(images)),
    }
    if compiled:
        program = torch.compile(net)
        found[COMPILED] = lambda: numpy_of(program(images))
    return found


def onnx_contestant(net: Net, images: np.ndarray, threads: int) -> Contestant:
    """onnxruntime on our own export."""
    import onnxruntime

    from caffe_compat.tools._onnx import to_onnx

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    model = to_onnx(net).SerializeToString()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run() -> dict[str, np.ndarray]:
        return dict(zip(sorted(net.outputs), session.run(None, {name: images}), strict=True))

    return run


def difference(ours: dict[str, np.ndarray], plain: dict[str, np.ndarray]) -> float:
    """The largest difference, relative to the largest value of its blob."""
    pairs = zip(sorted(ours.items()), sorted(plain.items()), strict=True)
    return max(float(np.abs(a - b.reshape(a.shape)).max() / np.abs(b).max()) for (_, a), (_, b) in pairs)


def time_once(run: Callable[[], object]) -> float:
    """Milliseconds of a call."""
    start = time.perf_counter()
    run()
    return 1e3 * (time.perf_counter() - start)


def take_turn(run_ms: Callable[[], float]) -> float:
    """The least milliseconds of the runs of a turn."""
    took = list[float]()
    while len(took) < FEWEST_RUNS or sum(took) < 1e3 * TURN_S:
        took.append(run_ms())
    return min(took[1:])


@contextlib.contextmanager
def opencv_process(
    python: str | None, net: Net, prototxt: str, images: np.ndarray, threads: int
) -> Iterator[OpenCV | None]:
    """The process, if an interpreter was named."""
    if python is None:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / name for name in ("net.prototxt", "net.caffemodel", "images.npy")]
        files[0].write_text(prototxt)
        net.save(files[1])
        np.save(files[2], images)
        process = OpenCV(python, files, threads)
        try:
            yield process
        finally:
            process.close()


def bench(name: str, batch: int, args: argparse.Namespace) -> dict[str, Any]:
    """{contestant: {least, median: ms, difference}} for one net and batch size."""
    net, fast = make_net(name, batch), make_net(name, batch)
    fast.share_with(net)
    images = torch.randn(net.blob_shapes["data"])
    runs = our_contestants(net, fast, images, args.compile)
    if importlib.util.find_spec("onnxruntime") is not None:
        runs[ONNXRUNTIME] = onnx_contestant(net, images.numpy(), args.threads)
    plain = runs["plain"]()
    assert plain is not None
    runs = {contestant: run for contestant, run in runs.items() if contestant not in args.without}
    differences = {contestant: difference(run() or {}, plain) for contestant, run in runs.items()}
    with opencv_process(args.opencv, net, NETS[name](batch), images.numpy(), args.threads) as opencv:
        times: dict[str, list[float]] = {contestant: [] for contestant in runs}
        turns: dict[str, Callable[[], float]] = {name: partial(time_once, run) for name, run in runs.items()}
        if opencv is not None:
            times[OPENCV] = []
            turns[OPENCV] = opencv.run_ms
            differences[OPENCV] = difference(opencv.outputs, plain)
        for _ in range(args.rounds):
            for contestant, turn in turns.items():
                time.sleep(REST_S)
                times[contestant].append(take_turn(turn))
    return {
        contestant: {
            "least": min(found),
            "median": statistics.median(found),
            "difference": differences[contestant],
        }
        for contestant, found in times.items()
    }


def print_rows(batch: int, rows: dict[str, dict[str, Any]]) -> None:
    """Milliseconds, and how many times as long as for_inference() each contestant takes."""
    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    print(f"\nbatch {batch}: least ms (times {OURS} by the least, by the median)")
    print(f"{'':24}" + "".join(f"{name:>24}" for name in names) + f"{'largest difference':>22}")
    for net, row in rows.items():
        ours = row[OURS]
        cells = []
        for name in names:
            one = row[name]
            ratios = f"({one['least'] / ours['least']:.2f}, {one['median'] / ours['median']:.2f})"
            cells.append(f"{one['least']:.2f} {ratios}")
        print(f"{net:24}" + "".join(f"{cell:>24}" for cell in cells) + f"{ours['difference']:>22.1e}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", nargs="+", choices=list(NETS), default=list(NETS))
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="for every contestant")
    parser.add_argument("--opencv", help="a Python that has OpenCV 4's cv2.dnn")
    parser.add_argument("--compile", action="store_true", help="torch.compile too, which takes a minute for each net")
    parser.add_argument("--without", nargs="+", default=[], help="contestants to leave out, as plain fast")
    parser.add_argument("--beside", default="", help="a sentence for the report: what else the machine did meanwhile")
    parser.add_argument("--json", type=Path, help="write the numbers here")
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    torch.set_grad_enabled(False)
    about = machine(torch.device("cpu"))
    print(f"{about['name']}, {args.threads} threads, torch {about['torch']}")
    if importlib.util.find_spec("onnxruntime") is None:
        print("onnxruntime is not installed: left out")
    if args.opencv is None:
        print("no --opencv: OpenCV left out")
    results: dict[str, Any] = {"machine": about, "rounds": args.rounds, "beside": args.beside, "batches": {}}
    for batch in args.batch:
        rows: dict[str, dict[str, Any]] = {}
        results["batches"][batch] = rows
        for name in args.nets:
            rows[name] = bench(name, batch, args)
            print(f"  {name}, batch {batch}: done", file=sys.stderr)
            if args.json is not None:
                args.json.write_text(json.dumps(results, indent=1))
        print_rows(batch, rows)


if __name__ == "__main__":
    main()
