"""How fast a device trains and tests the networks of a plan: a few steps of some of them, on images of noise.

    python -m reproduce.measure FOLDER half0A transfer0A0A_1_7 --device cuda:0 --seconds 30

A process of its own, so that threads, memory and the GPU are as in training.  Prints JSON.
"""

import argparse
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from caffe_compat.data.datum import encode_datum
from caffe_compat.data.lmdb import write_lmdb
from caffe_compat.data.mean import write_mean
from caffe_compat.errors import DataError
from reproduce.cost import Cost
from reproduce.mode import Mode
from reproduce.network import Network

#: of a measurement, in all; about, as a step of a large network on a CPU takes longer than its share
SECONDS = 30.0
#: more are not needed for a network whose steps take milliseconds
MOST_STEPS = 100
_RECORDS = 64
#: of a database of noise with as many records as the images' own
_MOST_BYTES = 64 << 20
_NEVER = 2**31 - 1
_ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Speed:
    """Seconds as a line over operations: that much for a step, and that much more for each operation in it."""

    step_s: float
    flop_s: float
    test_flop_s: float

    def seconds(self, cost: Cost) -> float:
        """For one network, alone on the device."""
        training = cost.iterations * self.step_s + cost.training * self.flop_s
        return training + cost.tests * self.test_flop_s


@dataclass(frozen=True)
class Timing:
    """Of one network."""

    step_s: float  # an iteration
    test_s: float  # a batch of a test
    tables_s: float = 0.0  # before the first of both: tables of what frozen layers make of each image (net/prefix.py)

    def seconds(self, cost: Cost) -> float:
        """For a network like it, alone on the device."""
        return self.tables_s + cost.iterations * self.step_s + cost.test_batches * self.test_s


def speed(costs: Sequence[Cost], timings: Sequence[Timing]) -> Speed:
    """The line through two networks, of more and of fewer operations; through zero where it would fall.

    The rate of tests is the first one's.
    """
    (more, fewer), (slow, quick) = costs, timings
    apart = more.step_flops - fewer.step_flops
    flop_s = (slow.step_s - quick.step_s) / apart if apart > 0 else 0.0
    step_s = slow.step_s - flop_s * more.step_flops
    if flop_s <= 0 or step_s < 0:
        step_s, flop_s = 0.0, slow.step_s / more.step_flops
    return Speed(step_s, flop_s, slow.test_s / more.test_flops)


def write_noise(
    networks: Sequence[Network],
    folder: Path,
    *,
    channels: int,
    size_px: int,
    classes: int = 2,
    counts: Mapping[str, int] | None = None,
) -> None:
    """Databases and means of noise under the names that the networks' folders ask for.

    ``counts``: how many records each should have ({half0A_train_lmdb: 186}), where that is known and not too much: a
    table of all images takes as long as there are images.
    """
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)

    def records(count: int) -> Iterator[tuple[str, bytes]]:
        for i in range(count):
            image = rng.integers(0, 256, (channels, size_px, size_px), np.uint8)
            yield f"{i:08d}", encode_datum(image, i % classes)

    most = _MOST_BYTES // (channels * size_px * size_px)
    for network in networks:
        for name in (f"{network.data}_train_lmdb", f"{network.test_data}_valid_lmdb"):
            if not (folder / name).exists():
                count = (counts or {}).get(name, _RECORDS)
                write_lmdb(folder / name, records(count if count <= most else _RECORDS))
        write_mean(
            folder / f"{network.mean_data}_mean.binaryproto", np.full((channels, size_px, size_px), 128, np.float32)
        )


def measure(folders: Sequence[Path], device: str, mode: Mode, seconds: float = SECONDS) -> list[Timing]:
    """Time networks in a process of its own.  Raises DataError with what it said when it fails."""
    command = [sys.executable, "-m", "reproduce.measure", *map(str, folders), "--device", device]
    command += ["--threads", str(mode.threads), "--precision", mode.precision, "--seconds", str(seconds)]
    path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [*command, *(["--fast"] if mode.fast else [])],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        check=False,
    )
    if done.returncode:
        why = (done.stderr.strip() or "killed").splitlines()[-1]
        raise DataError(f"--dry-run: the measurement on {device} failed: {why}")
    return [Timing(**timing) for timing in json.loads(done.stdout)]


def _time_network(folder: Path, device: str, mode: Mode, seconds: float) -> Timing:
    """Steps and test batches of one network, after a first one of each; most of the time is for the steps."""
    import torch

    from caffe_compat import Solver
    from caffe_compat.proto import read_solver
    from caffe_compat.solver import Log
    from reproduce.train_one import look_up_prefixes

    warnings.simplefilter("ignore")  # whoever trains the network is told of them
    os.chdir(folder)
    param = read_solver("solver.prototxt")
    param.test_initialization, param.test_interval, param.test_iter[:] = False, _NEVER, [1]
    param.snapshot = param.display = 0
    param.ClearField("weights")  # the base network's, which is not there
    solver = Solver(param, device=device, fast=mode.fast, precision=mode.precision, log=Log(enabled=False))
    tables = bool(mode.fast and look_up_prefixes(solver, read_solver("solver.prototxt")))

    def wait() -> None:
        if solver.device.type == "cuda":
            torch.cuda.synchronize(solver.device)

    try:
        first_s, step_s = _seconds_each(lambda: solver.step(1), wait, seconds * 0.75, tables)
        first_test_s, test_s = _seconds_each(lambda: solver.test(0), wait, seconds * 0.25, tables)
    finally:
        solver.close()
    tables_s = max(0.0, first_s - step_s) + max(0.0, first_test_s - test_s) if tables else 0.0
    return Timing(step_s, test_s, tables_s)


def _seconds_each(
    work: Callable[[], object], wait: Callable[[], None], seconds: float, tables: bool
) -> tuple[float, float]:
    """Seconds of the first time, and on average later; the first time takes longer where it makes ``tables``."""
    began = time.perf_counter()
    first_s = 0.0
    for _ in range(2):  # the first ones make buffers, and record CUDA graphs
        work()
        wait()
        took_s = time.perf_counter() - began
        first_s = first_s or took_s
        if took_s > seconds and not tables:
            return first_s, took_s
    began, count = time.perf_counter(), 0
    while count < MOST_STEPS and (not count or time.perf_counter() - began < seconds):
        work()
        count += 1
    wait()
    return first_s, (time.perf_counter() - began) / count


def main(arguments: list[str] | None = None) -> int:
    """Time the networks of some folders, and print what was found."""
    parser = argparse.ArgumentParser(description="time some steps of networks of the experiment")
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--fast", action="store_true")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--seconds", type=float, default=SECONDS)
    args = parser.parse_args(arguments)
    import torch

    torch.set_num_threads(args.threads)
    mode, folders = Mode(args.threads, args.fast, args.precision), [folder.absolute() for folder in args.folders]
    timings = [_time_network(folder, args.device, mode, args.seconds / len(folders)) for folder in folders]
    print(json.dumps([asdict(timing) for timing in timings]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
