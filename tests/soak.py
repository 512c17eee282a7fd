"""A long life in one process: it must neither grow nor compute anything else at the end.  `make soak`, ten minutes.

    python -m tests.soak --seconds 600

Each round trains (layer by layer and in fast mode) with tests and snapshots, trains once more from the snapshot half
way, runs `caffe-compat test` on what was trained, reads the database through `Loader`, makes and folds a deploy net,
and reshapes one pycaffe net that lives all the time.  The values of each round have to be those of the first, bit for
bit; memory, open files, threads and Python's objects of the last third of the rounds those of the third before.
"""

import argparse
import gc
import hashlib
import io
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import chdir, contextmanager, redirect_stderr
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path

import numpy as np
import torch

import caffe_compat.pycaffe as caffe
from caffe_compat import Net, Solver, random
from caffe_compat.cli import main as command
from caffe_compat.data import Loader, Transformer, encode_datum, write_lmdb
from caffe_compat.solver import Log

IMAGES, SIZE, CROP = 50, 20, 16  # no multiple of a batch: epochs end inside of batches
LAYERS = """
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param { num_output: 16 kernel_size: 5 pad: 2 weight_filler { type: "xavier" } } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1"
  pooling_param { pool: MAX kernel_size: 3 stride: 2 } }
layer { name: "norm1" type: "LRN" bottom: "pool1" top: "norm1"
  lrn_param { local_size: 5 alpha: 0.0001 beta: 0.75 } }
layer { name: "conv2" type: "Convolution" bottom: "norm1" top: "conv2"
  convolution_param { num_output: 16 kernel_size: 3 group: 2 weight_filler { type: "xavier" } } }
layer { name: "relu2" type: "ReLU" bottom: "conv2" top: "conv2" }
layer { name: "pool2" type: "Pooling" bottom: "conv2" top: "pool2" pooling_param { pool: AVE global_pooling: true } }
layer { name: "drop" type: "Dropout" bottom: "pool2" top: "pool2" dropout_param { dropout_ratio: 0.3 } }
layer { name: "ip" type: "InnerProduct" bottom: "pool2" top: "ip"
  inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
"""
TRAIN = f"""
layer {{ name: "data" type: "Data" top: "data" top: "label"
  transform_param {{ scale: 0.0078125 crop_size: {CROP} mirror: true mean_value: 128 }}
  data_param {{ source: "db" batch_size: 8 backend: LMDB }} }}
{LAYERS}
layer {{ name: "accuracy" type: "Accuracy" bottom: "ip" bottom: "label" top: "accuracy" include {{ phase: TEST }} }}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }}
"""
DEPLOY = f"""
layer {{ name: "data" type: "Input" top: "data"
  input_param {{ shape {{ dim: 1 dim: 3 dim: {CROP} dim: {CROP} }} }} }}
{LAYERS}
layer {{ name: "prob" type: "Softmax" bottom: "ip" top: "prob" }}
"""
SOLVER = """net: "train.prototxt" base_lr: 0.05 momentum: 0.9 weight_decay: 0.001 lr_policy: "fixed" max_iter: 12
test_iter: 2 test_interval: 6 snapshot: 6 snapshot_prefix: "snap" solver_mode: CPU random_seed: 7 """

#: between one third of the rounds and the next; memory of the allocator's own, which comes and goes by pages
ALLOWED = {"memory_bytes": 4 << 20, "files": 0, "threads": 0, "objects": 50}


@dataclass(frozen=True)
class Reading:
    """What this process holds."""

    memory_bytes: int  #: its own, without the pages of files
    files: int
    threads: int
    objects: int  #: that Python's garbage collector knows

    @classmethod
    def now(cls, earlier: int) -> "Reading":
        """``earlier``: how many readings are kept, which are objects, too, and do not count."""
        gc.collect()
        status = Path("/proc/self/status").read_text()
        own = re.search(r"RssAnon:\s+(\d+) kB", status)
        assert own
        files, threads = len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))
        return cls(int(own[1]) << 10, files, threads, len(gc.get_objects()) - earlier)

    def __str__(self) -> str:
        return (
            f"{self.memory_bytes / 2**20:.1f} MiB, {self.files} files, {self.threads} threads, {self.objects} objects"
        )


def grown(readings: Sequence[Reading]) -> list[str]:
    """What grew from the second third to the last, in words; the first is for caches to fill."""
    third = len(readings) // 3
    found = []
    for name in (field.name for field in fields(Reading)):
        before, after = (max(getattr(r, name) for r in part) for part in (readings[third:-third], readings[-third:]))
        if after > before + ALLOWED[name]:
            found.append(f"{name.removesuffix('_bytes')} grew from {before} to {after}")
    return found


def digest(*values: bytes | np.ndarray | torch.Tensor | str) -> str:
    """Of the bits of all of them."""
    sha = hashlib.sha256()
    for value in values:
        value = value.detach().numpy() if isinstance(value, torch.Tensor) else value
        value = np.ascontiguousarray(value).tobytes() if isinstance(value, np.ndarray) else value
        sha.update(value.encode() if isinstance(value, str) else value)
    return sha.hexdigest()[:16]


# -- what a round does; each returns the digest of its values ------------------------------


def train(fast: bool) -> str:
    """All iterations, then the second half again from the snapshot; both have to end with the same files."""
    ends = []
    for resume in (None, "snap_iter_6.solverstate"):
        solver = Solver("solver.prototxt", log=Log(enabled=False), fast=fast)
        try:
            solver.solve(resume)
            scores = [score.value for score in solver.test()]
        finally:
            solver.close()
        ends.append(digest(Path("snap_iter_12.caffemodel").read_bytes(), repr(scores)))
    assert ends[0] == ends[1], f"from the snapshot it ended with {ends[1]}, not with {ends[0]}"
    return ends[0]


def run_test_command() -> str:
    """The numbers that `caffe-compat test` logs."""
    words = ["--model", "train.prototxt", "--weights", "snap_iter_12.caffemodel", "--iterations", "3"]
    with redirect_stderr(io.StringIO()) as said:
        status = command(["test", *words])
    assert status == 0, said.getvalue()
    means = re.findall(r"(?:accuracy|loss) = \S+", said.getvalue())
    assert means
    return digest(*means)


def read() -> str:
    """An epoch and a half of crops, by `Loader`."""
    with Loader("db", 8, Transformer(crop_size=CROP, mirror=True), seed=5) as loader:
        return digest(*(tensor for _ in range(10) for tensor in loader.next_batch()))


def infer() -> str:
    """A net made, folded and thrown away."""
    net = Net("deploy.prototxt", "snap_iter_12.caffemodel", phase="TEST").for_inference()
    with torch.no_grad():
        return digest(net(torch.linspace(-1, 1, 3 * CROP * CROP).view(1, 3, CROP, CROP))["prob"])


def reshape(net: caffe.Net) -> str:
    """One net over inputs of several sizes, there and back."""
    found = []
    for count, size in ((1, 16), (5, 24), (2, 40), (3, 17), (1, 16)):
        net.blobs["data"].reshape(count, 3, size, size)
        net.reshape()
        values = np.linspace(-1, 1, net.blobs["data"].count, dtype=np.float32)
        net.blobs["data"].data[...] = values.reshape(count, 3, size, size)
        found.append(net.forward()["prob"].copy())
        net.blobs["prob"].diff[...] = 1
        net.backward()
    return digest(*found)


@contextmanager
def job() -> Iterator[dict[str, Callable[[], str]]]:
    """The parts of a round, in a working directory with what they read."""
    with tempfile.TemporaryDirectory() as folder, chdir(folder), random.scope():
        draw = np.random.default_rng(0)
        images = draw.integers(0, 256, (IMAGES, 3, SIZE, SIZE), np.uint8)
        write_lmdb("db", ((b"%04d" % i, encode_datum(image, i % 5)) for i, image in enumerate(images)))
        for name, text in (("train", TRAIN), ("deploy", DEPLOY), ("solver", SOLVER)):
            Path(f"{name}.prototxt").write_text(text)
        train(fast=False)  # weights for the net that lives on
        net = caffe.Net("deploy.prototxt", "snap_iter_12.caffemodel", caffe.TEST)
        yield {
            "train in fast mode": partial(train, fast=True),
            "train": partial(train, fast=False),
            "test": run_test_command,
            "read": read,
            "infer": infer,
            "reshape": partial(reshape, net),
        }


def soak(parts: dict[str, Callable[[], str]], seconds: float, rounds: int | None) -> list[str]:
    """Run the parts over and over; what went wrong.  Prints how it goes on, every minute."""
    readings: list[Reading] = []
    first: dict[str, str] = {}
    begin = told = time.monotonic()
    while len(readings) != rounds and (rounds or time.monotonic() - begin < seconds):
        for name, part in parts.items():
            value = part()
            if value != first.setdefault(name, value):
                return [f"round {len(readings) + 1}: {name}: other values than in the first round"]
        readings.append(Reading.now(len(readings)))
        if len(readings) == 1 or time.monotonic() - told > 60:
            told = time.monotonic()
            print(f"soak: {told - begin:5.0f} s, {len(readings)} rounds: {readings[-1]}", flush=True)
    print(f"soak: {time.monotonic() - begin:5.0f} s, {len(readings)} rounds: {readings[-1]}")
    if len(readings) < 6:
        return [f"only {len(readings)} rounds; 6 are needed to see growth: give more --seconds"]
    return grown(readings)


def main(arguments: Sequence[str] | None = None) -> int:
    """0 where nothing grew and all values stayed."""
    parser = argparse.ArgumentParser("python -m tests.soak", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600, help="default: 600")
    parser.add_argument("--rounds", type=int, help="so many rounds, however long they take")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    with job() as parts:
        wrong = soak(parts, args.seconds, args.rounds)
    print("\n".join(wrong) or "soak: nothing grew, and every round had the values of the first")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
