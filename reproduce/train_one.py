"""Train one network, whose folder says everything, from its newest snapshot to the end.

    python reproduce/train_one.py OUT/transfer0A0B_1_4 --device cuda:0
    python reproduce/train_one.py OUT/transfer0A0B_1_4 OUT/transfer0A0B_1_5 --device cuda:0      side by side

Started again after a kill it continues, and ends with the same bits.  SIGTERM, SIGUSR1 and SIGUSR2 end it after a
snapshot.  Exit codes: 0 trained, 1 a fault of the program, 2 wrong input, 3 another process trains it, 4 asked to
leave.
"""

if __name__ == "__main__" and not __package__:
    import from_checkout  # noqa: F401

import argparse
import errno
import os
import re
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import torch

from caffe_compat import Solver
from caffe_compat.atomic_file import write_text
from caffe_compat.errors import CaffeCompatError
from caffe_compat.net.prefix import look_up_prefix
from caffe_compat.precision import PRECISIONS
from caffe_compat.solver import Log
from caffe_compat.solver.events import Event
from caffe_compat.solver.metrics import JsonLines
from reproduce import torchvision_blocks  # noqa: F401  (the layer type of nets of --model)
from reproduce.lease import LEASE_S, Held, Lease, LeaseLost
from reproduce.mode import Mode
from reproduce.results import DONE, FAILED, METRICS, note_failure
from reproduce.runners import ELSEWHERE, FAULT, LEFT, TRAINED, WAIT, WRONG_INPUT, Outcome
from reproduce.side_by_side import Common, has_own_crops, train_in_turns
from reproduce.stop_signals import StopSignals

LOG = "train.log"


class Left(CaffeCompatError):
    """Training was asked to stop, and has written a snapshot to go on from."""


def attempt(
    folders: Sequence[Path],
    device: str,
    mode: Mode,
    *,
    lease_s: float = LEASE_S,
    wait_s: float = 0.0,
    asked_to_leave: Callable[[], bool] = lambda: False,
) -> list[Outcome]:
    """``training`` to the end, and what became of each: an exit code, and one line where it is not 0.

    Several networks are trained side by side (``side_by_side``); one that fails does not end the others.
    """
    outcomes = [Outcome(TRAINED)] * len(folders)
    common = Common() if len(folders) > 1 else None
    trainings = [
        training(folder, device, mode, lease_s=lease_s, wait_s=wait_s, asked_to_leave=asked_to_leave, common=common)
        for folder in folders
    ]

    def over(number: int, error: Exception | None) -> None:
        if error is not None:
            outcomes[number] = _outcome(error, folders[number])

    if len(trainings) > 1:
        train_in_turns(trainings, device, over)
        return outcomes
    for number, turns in enumerate(trainings):
        try:
            for _ in turns:
                pass
        except Exception as error:
            over(number, error)
    return outcomes


def _outcome(error: Exception, folder: Path) -> Outcome:
    """What an error that has ended a training means."""
    if isinstance(error, Held | LeaseLost):
        return Outcome(ELSEWHERE, str(error))
    if isinstance(error, Left):
        return Outcome(LEFT, str(error))
    if isinstance(error, CaffeCompatError | OSError):
        return Outcome(WRONG_INPUT, _explain(error, folder))
    traceback.print_exception(error)  # a fault of ours: all of it, not squeezed into one line
    return Outcome(FAULT, f"{folder.name}: ended by an error of the program; its traceback stands above")


def training(
    folder: Path,
    device: str = "cpu",
    mode: Mode = Mode(),  # noqa: B008 (it is frozen)
    *,
    lease_s: float = LEASE_S,
    wait_s: float = 0.0,
    asked_to_leave: Callable[[], bool] = lambda: False,
    common: Common | None = None,
) -> Generator[int, None, None]:
    """Train the network of ``folder`` to its end, in turns; does nothing when it has got there.  Gives the iteration.

    Works in ``folder``, where the paths of the prototxts start.  Writes the log (``train.log``),
    the same events as JSON lines (``train.jsonl``), snapshots, and at the very end ``done``.
    ``lease_s``, ``wait_s``: ``seconds`` and ``wait_s`` of ``Lease``.  ``asked_to_leave`` is asked after each iteration.
    ``common``: with the other networks of this process.
    Raises Held or LeaseLost when another process trains it, Left when it was asked to leave and has written a snapshot,
    CaffeCompatError or OSError for all else.
    """
    torch.set_num_threads(mode.threads)
    os.chdir(folder)
    with Lease(folder, seconds=lease_s, wait_s=wait_s) as lease:
        if Path(DONE).exists():
            return
        Path(FAILED).unlink(missing_ok=True)  # what an earlier try said
        with _appending(LOG, lease) as stream:
            log = Log(stream, [_LeasedLines(METRICS, lease)])
            log.start()  # from here the seconds of this process count
            _log_warnings(log)
            solver = Solver(
                "solver.prototxt",
                device=device,
                log=log,
                fast=mode.fast,
                precision=mode.precision,
                may_write=lambda: lease.check(sure=True),
            )
            said = look_up_prefixes(solver, solver.param) if mode.fast else []
            # Alone, too, where others may train beside it another time: the same operators, the same bits.
            common = Common() if common is None and has_own_crops(solver) else common
            said += common.join(solver) if common is not None else []
            for what in said:
                log.line("prefix.py:1", what)
            left = yield from _solve(solver, log, lease, asked_to_leave)
        if left is not None:
            raise Left(f"{folder.name}: left at iteration {left}, after a snapshot; run the same command to continue")
        lease.check(sure=True)
        _remove_old_states()
        write_text(DONE, f"{time.strftime('%Y-%m-%d %H:%M:%S')}\n")


def look_up_prefixes(solver: Solver, param: Any) -> list[str]:
    """Compute once what the frozen layers make of each image, where that pays; in words, of which nets.

    ``param``: a SolverParameter that says how long ``solver`` is going to train, and test.
    """
    tests = param.max_iter // param.test_interval + 1 if param.test_interval else 0
    batches = [param.max_iter * param.iter_size, *(tests * count for count in param.test_iter)]
    said = []
    for net, count in zip((solver.net, *solver.test_nets), batches, strict=False):
        what = look_up_prefix(net, count * net.blob_shapes_in_order[0][0])
        if what:
            said.append(f"{net.source}: {what}")
    return said


def _solve(
    solver: Solver, log: Log, lease: Lease, asked_to_leave: Callable[[], bool]
) -> Generator[int, None, int | None]:
    """Train to the end; the iteration where it was left before."""
    leaving = _Leaving(asked_to_leave)
    solver.set_action_function(leaving.action)
    solver.add_callback(on_start=leaving.iterate, on_update=lambda solver: lease.check())
    try:
        state = solver.newest_snapshot()
        if state is None:
            for weights in solver.param.weights:
                solver.net.copy_from(weights, warn=False)  # the Solver has said what fits
        yield from solver.solve_in_turns(state)
        return solver.iter if leaving.left else None
    finally:
        solver.close()


class _Leaving:
    """Answers the solver's question whether to stop: between iterations only.

    A test that is interrupted would go on with other images after a snapshot.
    """

    def __init__(self, asked: Callable[[], bool]) -> None:
        self._asked, self._iterating, self.left = asked, False, False

    def iterate(self, solver: Solver) -> None:
        """An iteration begins: the tests before it are over.  After the last one there is nothing left to stop."""
        self._iterating = solver.iter + 1 < solver.param.max_iter

    def action(self) -> str:
        """What a Solver's action function returns."""
        after_an_iteration, self._iterating = self._iterating, False
        self.left = self.left or (after_an_iteration and self._asked())
        return "stop" if after_an_iteration and self.left else "none"


class _LeasedStream:
    """Writes nothing any more when the network is another process's."""

    def __init__(self, stream: TextIO, lease: Lease) -> None:
        self._stream, self._lease = stream, lease

    def write(self, text: str) -> None:
        self._lease.check()
        self._stream.write(text)

    def flush(self) -> None:
        self._stream.flush()


class _LeasedLines(JsonLines):
    """The same for events."""

    def __init__(self, path: str, lease: Lease) -> None:
        super().__init__(path)
        self._lease = lease

    def write(self, event: Event) -> None:
        self._lease.check()
        super().write(event)


def _log_warnings(log: Log) -> None:
    """Warnings belong to this network's log: on the screen those of all networks would mix."""

    def show(message: Warning | str, category: type[Warning], filename: str, lineno: int, *rest: object) -> None:
        log.warning(f"{Path(filename).name}:{lineno}", str(message))

    warnings.showwarning = show  # type: ignore[assignment]


@contextmanager
def _appending(name: str, lease: Lease) -> Iterator[Any]:
    """A log to append to; what a kill left of a last line is closed first, also in the JSON lines."""
    for file in (name, METRICS):
        with open(file, "ab+") as handle:
            end = handle.seek(0, os.SEEK_END)
            handle.seek(max(0, end - 1))
            if handle.read() not in (b"", b"\n"):
                handle.write(b"\n")
    with open(name, "a", encoding="utf-8") as stream:
        yield _LeasedStream(stream, lease)


def _remove_old_states() -> None:
    """Keep the last snapshot only: the earlier ones were there to resume from."""
    files = [(int(m[1]), path) for path in Path().iterdir() if (m := re.search(r"_iter_(\d+)\.", path.name))]
    last = max((number for number, _ in files), default=0)
    for number, path in files:
        if number < last:
            path.unlink()


def _explain(error: Exception, folder: Path) -> str:
    """One line that names the file; a full disk has its cure."""
    system = error if isinstance(error, OSError) else error.__cause__
    text = f"{error.filename or folder}: {error.strerror}" if isinstance(error, OSError) else f"{folder.name}: {error}"
    full = isinstance(system, OSError) and system.errno == errno.ENOSPC
    return text + ("; free some space and run the same command again" if full else "")


def main(arguments: list[str] | None = None) -> int:
    """Train the networks of some folders; returns the exit code, of several the first that is not 0."""
    parser = argparse.ArgumentParser(description="train one network of the experiment, or several side by side")
    parser.add_argument("folder", type=Path, nargs="+")
    parser.add_argument("--device", default="cpu", help="cpu or cuda:0, ... (default: cpu)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    parser.add_argument("--fast", action="store_true", help="the solver's fast mode (docs/solver.md)")
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32", help="default: fp32")
    args = parser.parse_args(arguments)
    folders = [folder.absolute() for folder in args.folder]
    with StopSignals() as signals:
        outcomes = attempt(
            folders,
            args.device,
            Mode(args.threads, args.fast, args.precision),
            wait_s=WAIT * LEASE_S,
            asked_to_leave=signals.asked,
        )
    for folder, outcome in zip(folders, outcomes, strict=True):
        if outcome.code != TRAINED:
            print(f"train_one: {outcome.why}", file=sys.stderr)
        if outcome.code in (FAULT, WRONG_INPUT):
            note_failure(folder, outcome.why)
    return next((outcome.code for outcome in outcomes if outcome.code != TRAINED), TRAINED)


if __name__ == "__main__":
    sys.exit(main())
