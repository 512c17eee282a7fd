"""Where each network of a folder is: a list, once or again and again, and what the page of ``status_page`` shows."""

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import mean
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from caffe_compat.errors import CaffeCompatError
from caffe_compat.proto import caffe_pb2, read_message
from reproduce.folder_networks import networks_in
from reproduce.lease import holder, server_time
from reproduce.network import Network
from reproduce.publish import reason_of
from reproduce.results import DONE, FAILED, METRICS, read_result
from reproduce.runners import is_done

TRAINING, FAILURE, READY, WAITING = "training", "failed", "ready", "waiting"
STATES = (DONE, TRAINING, FAILURE, READY, WAITING)
REFRESH_S = 2.0
_PLAIN: Any = {"highlight": False, "markup": False}


@dataclass(frozen=True)
class Row:
    """Where one network is."""

    name: str
    state: str
    details: str  # accuracy, position, or why it has no result
    worker: str = ""  # who trains it
    iteration: int = 0
    iterations: int = 0  # of the whole training
    curve: tuple[tuple[int, float], ...] = ()  # (iteration, loss) of its displays
    left_s: float | None = None  # until it is finished, at the speed of the process that trains it
    kind: tuple[bool, int] = (False, 0)  # Network.kind
    iteration_s: float | None = None  # how long one takes, tests between them included; None: not known


def rows_of(out: Path, *, curves: bool = False) -> list[Row]:
    """A row for each network in ``out``, in the plan's order.  Raises DataError for a damaged folder."""
    now_s = server_time(out)
    return [_row(network, out, now_s, curves) for network in networks_in(out)]


def summary(out: Path, rows: Sequence[Row]) -> str:
    """How many networks are where, and how long the rest takes, as far as that is known."""
    counts = Counter(row.state for row in rows)
    parts = [f"{counts[state]} {state}" for state in STATES if counts[state]]
    left = time_left(rows)
    return f"{out}: {len(rows)} networks" + (f": {', '.join(parts)}" if parts else "") + (f"; {left}" if left else "")


def time_left(rows: Sequence[Row]) -> str:
    """In words; "" where nothing trains.

    Networks that have not begun count as those of their kind that are trained or train, else as the nearest kind's.
    """
    running = [row for row in rows if row.left_s is not None and row.iterations > row.iteration]
    if not running:
        return ""
    speeds: dict[tuple[bool, int], list[float]] = {}
    for row in rows:
        if row.iteration_s is not None:
            speeds.setdefault(row.kind, []).append(row.iteration_s)
    waiting = [row for row in rows if row.state in (READY, WAITING)]
    seconds = sum((row.iterations - row.iteration) * _nearest(speeds, row.kind) for row in waiting)
    seconds = (seconds + sum(row.left_s or 0.0 for row in running)) / len(running)
    longest = max(row.left_s or 0.0 for row in running)
    return f"about {words(max(seconds, longest))} left with {len(running)} at a time"


def _nearest(speeds: Mapping[tuple[bool, int], Sequence[float]], kind: tuple[bool, int]) -> float:
    """The mean speed of a kind, or of that which comes nearest: frozen layers for frozen ones, as many as there are."""
    frozen, n = kind
    return mean(speeds[min(speeds, key=lambda other: (other[0] != frozen, abs(other[1] - n)))])


def words(seconds: float) -> str:
    """A duration to two digits or so."""
    for size, unit in ((86400.0, "days"), (3600.0, "h"), (60.0, "min")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {unit}" if seconds < 10 * size else f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def show_status(out: Path, console: Console) -> None:
    """Print a line for each network in ``out``, and how many are where.  Raises DataError for a damaged file."""
    rows = rows_of(out)
    for line in _lines(out, rows):
        console.print(line, **_PLAIN)


def status_json(out: Path) -> str:
    """The same as data: a name, state, details, worker and iterations for each network.  Raises DataError as above."""
    fields = ("name", "state", "details", "worker", "iteration", "iterations", "left_s")
    rows = [{field: getattr(row, field) for field in fields} for row in rows_of(out)]
    return json.dumps({"folder": str(out), "networks": rows}, indent=2)


def watch_status(out: Path, console: Console, refresh_s: float = REFRESH_S) -> None:
    """The same, drawn again and again until nothing is left to train or Ctrl-C; DataError as above."""
    with Live(console=console, auto_refresh=False) as live:
        while True:
            rows = rows_of(out)
            # What is done and what waits may be too long for a screen.
            busy = [row for row in rows if row.state in (TRAINING, FAILURE)]
            live.update(Text("\n".join(_lines(out, rows if len(rows) < console.height - 1 else busy))), refresh=True)
            if all(row.state in (DONE, FAILURE) for row in rows):
                return
            time.sleep(refresh_s)


def _lines(out: Path, rows: Sequence[Row]) -> list[str]:
    lines = [
        f"{row.name:26} {row.state:9} {row.details}".rstrip()
        + (f", {words(row.left_s)} left" if row.left_s is not None else "")
        + (f" ({row.worker})" if row.worker else "")
        for row in rows
    ]
    return [*lines, summary(out, rows)]


def state_of(network: Network, out: Path, server_s: float | None = None) -> str:
    """One of ``STATES``."""
    return _state(network, out, bool(holder(out / network.name, server_s)))


def _state(network: Network, out: Path, held: bool) -> str:
    if is_done(network, out):
        return DONE
    if held:
        return TRAINING
    if (out / network.name / FAILED).exists():
        return FAILURE
    return READY if not network.base_network or (out / network.base_network / DONE).exists() else WAITING


def _row(network: Network, out: Path, now_s: float, curves: bool) -> Row:
    folder = out / network.name
    worker = holder(folder, now_s)
    state = _state(network, out, worker is not None)
    iterations = _iterations(folder / "solver.prototxt")
    iteration, curve, left_s = _course(folder, iterations) if curves or state in (TRAINING, READY) else (0, (), None)
    iteration_s = None
    if state == DONE:
        result = read_result(network, out)
        details = f"accuracy {result.accuracy:.3f}"
        iteration_s = result.seconds / iterations
    elif state in (FAILURE, WAITING):
        details = reason_of(network, out).removeprefix("failed: ")
    elif curve:
        details = f"iteration {curve[-1][0]}, loss {curve[-1][1]:.3f}, of {iterations}"
    else:
        details = f"{'starting, of' if state == TRAINING else '0 of'} {iterations}"
    if state == TRAINING and left_s is not None and iteration < iterations:
        iteration_s = left_s / (iterations - iteration)
    return Row(
        network.name,
        state,
        details,
        str(worker) if worker and state == TRAINING else "",
        iterations if state == DONE else iteration,
        iterations,
        curve,
        left_s if state == TRAINING else None,
        network.kind,
        iteration_s,
    )


@cache
def _iterations(solver: Path) -> int:
    return int(read_message(solver, caffe_pb2.SolverParameter()).max_iter)


def _course(folder: Path, iterations: int) -> tuple[int, tuple[tuple[int, float], ...], float | None]:
    """(last iteration that is known, displays, seconds that are left) of a network; None before two displays."""
    # Imported here: it brings PyTorch, which a list of finished networks can do without.
    from caffe_compat.solver.events import StartEvent, TrainEvent, read_events

    losses: dict[int, float] = {}
    since: list[tuple[float, int]] = []  # (time, iteration) of the displays of the newest process
    try:
        for event in read_events(folder / METRICS):
            if isinstance(event, StartEvent):
                since = []
            elif isinstance(event, TrainEvent):
                losses[event.iteration] = event.loss  # after a kill iterations come again
                since.append((event.time_s, event.iteration))
    except CaffeCompatError:
        return 0, (), None  # no file yet, or a damaged one, of which report tells
    curve = tuple(sorted(losses.items()))
    left_s = None
    if len(since) > 1 and since[-1][1] > since[0][1]:
        left_s = (since[-1][0] - since[0][0]) / (since[-1][1] - since[0][1]) * max(0, iterations - since[-1][1])
    return (since[-1][1] if since else curve[-1][0] if curve else 0), curve, left_s
