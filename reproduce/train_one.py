"""Train one network, whose folder says everything, from its newest snapshot to the end.

    python reproduce/train_one.py OUT/transfer0A0B_1_4 --device cuda:0

Started again after a kill it continues, and ends with the same bits.
"""

if __name__ == "__main__" and not __package__:
    import from_checkout  # noqa: F401

import argparse
import fcntl
import os
import re
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import torch

from caffe_compat import Solver
from caffe_compat.atomic_file import write_text
from caffe_compat.errors import CaffeCompatError, SolverError, one_line
from caffe_compat.net.prefix import look_up_prefix
from caffe_compat.precision import PRECISIONS
from caffe_compat.solver import Log
from caffe_compat.solver.metrics import JsonLines
from reproduce.mode import Mode
from reproduce.results import DONE, FAILED, METRICS, note_failure

#: how long to wait for a network that another process trains: those of a killed run end a moment after it
LOCK_WAIT_S = 20.0
LOG = "train.log"


def train(folder: Path, device: str = "cpu", mode: Mode = Mode()) -> None:  # noqa: B008 (it is frozen)
    """Train the network of ``folder`` to its end; does nothing when it has got there.

    Works in ``folder``, where the paths of the prototxts start.  Writes the log (``train.log``),
    the same events as JSON lines (``train.jsonl``), snapshots, and at the very end ``done``.
    Raises CaffeCompatError or OSError.
    """
    torch.set_num_threads(mode.threads)
    os.chdir(folder)
    with _locked(folder):
        if Path(DONE).exists():
            return
        Path(FAILED).unlink(missing_ok=True)  # what an earlier try said
        with _appending(LOG) as stream:
            log = Log(stream, [JsonLines(METRICS)])
            log.start()  # from here the seconds of this process count
            _log_warnings(log)
            solver = Solver("solver.prototxt", device=device, log=log, fast=mode.fast, precision=mode.precision)
            if mode.fast:
                _look_up_prefixes(solver, log)
            _solve(solver)
        _remove_old_states()
        write_text(DONE, f"{time.strftime('%Y-%m-%d %H:%M:%S')}\n")


def _look_up_prefixes(solver: Solver, log: Log) -> None:
    """Compute once what the frozen layers make of each image, where that pays; the log says of which."""
    param = solver.param
    tests = param.max_iter // param.test_interval + 1 if param.test_interval else 0
    batches = [param.max_iter * param.iter_size, *(tests * count for count in param.test_iter)]
    for net, count in zip((solver.net, *solver.test_nets), batches, strict=False):
        what = look_up_prefix(net, count * net.blob_shapes_in_order[0][0])
        if what:
            log.line("prefix.py:1", f"{net.source}: {what}")


def _solve(solver: Solver) -> None:
    try:
        state = solver.newest_snapshot()
        if state is None:
            for weights in solver.param.weights:
                solver.net.copy_from(weights, warn=False)  # the Solver has said what fits
        solver.solve(state)
    finally:
        solver.close()


def _log_warnings(log: Log) -> None:
    """Warnings belong to this network's log: on the screen those of all networks would mix."""

    def show(message: Warning | str, category: type[Warning], filename: str, lineno: int, *rest: object) -> None:
        log.warning(f"{Path(filename).name}:{lineno}", str(message))

    warnings.showwarning = show  # type: ignore[assignment]


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Two processes never train one network: the second one gives up after a while."""
    with open(".lock", "w") as lock:
        deadline = time.monotonic() + LOCK_WAIT_S
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise SolverError(
                        f"{folder}: another process trains this network; wait for it or stop it"
                    ) from None
            time.sleep(0.1)
        yield


@contextmanager
def _appending(name: str) -> Iterator[TextIO]:
    """A log to append to; what a kill left of a last line is closed first, also in the JSON lines."""
    for file in (name, METRICS):
        with open(file, "ab+") as handle:
            end = handle.seek(0, os.SEEK_END)
            handle.seek(max(0, end - 1))
            if handle.read() not in (b"", b"\n"):
                handle.write(b"\n")
    with open(name, "a", encoding="utf-8") as stream:
        yield stream


def _remove_old_states() -> None:
    """Keep the last snapshot only: the earlier ones were there to resume from."""
    files = [(int(m[1]), path) for path in Path().iterdir() if (m := re.search(r"_iter_(\d+)\.", path.name))]
    last = max((number for number, _ in files), default=0)
    for number, path in files:
        if number < last:
            path.unlink()


def main(arguments: list[str] | None = None) -> int:
    """Train one folder; 2 for wrong input."""
    parser = argparse.ArgumentParser(description="train one network of the experiment")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--device", default="cpu", help="cpu or cuda:0, ... (default: cpu)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    parser.add_argument("--fast", action="store_true", help="the solver's fast mode (docs/solver.md)")
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32", help="default: fp32")
    args = parser.parse_args(arguments)
    folder = args.folder.absolute()
    try:
        train(folder, args.device, Mode(args.threads, args.fast, args.precision))
    except (CaffeCompatError, OSError) as error:
        print(f"train_one: {one_line(error)}", file=sys.stderr)
        note_failure(folder, one_line(error))
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
