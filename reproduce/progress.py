"""Networks done, current losses and time left: a live display, or plain lines without a terminal."""

import time
from collections.abc import Mapping
from pathlib import Path
from statistics import mean
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from caffe_compat.errors import SolverError
from reproduce.network import Network
from reproduce.results import METRICS

PLAIN_INTERVAL_S = 15.0
TAIL_BYTES = 4096
_PLAIN: Any = {"highlight": False, "markup": False}


class Progress:
    """Told when networks start and end; reads the rest from their JSON lines.

    ``costs``: what each network still to be trained costs, in any one unit.  It counts until a network of the same kind
    (``Network.kind``) has been trained: from then on the seconds that it took.
    """

    def __init__(
        self, costs: Mapping[Network, float], already_done: int, out: Path, console: Console | None = None
    ) -> None:
        self.console = console or Console()
        self._costs, self._out = dict(costs), out
        self._count = already_done
        self._total = already_done + len(costs)
        self._running: dict[str, float] = {}  # name -> when it started
        self._took: dict[Network, float] = {}  # seconds of those that were trained here
        self._finished: set[Network] = set()
        self._began = self._printed = time.monotonic()
        self._live: Live | None = None

    def __enter__(self) -> "Progress":
        if self.console.is_terminal:
            # Redrawn by poll() only: a thread of its own would get in the way of new processes.
            self._live = Live(console=self.console, auto_refresh=False, transient=True)
            self._live.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        if self._live:
            self._live.__exit__(None, None, None)

    def start(self, network: Network) -> None:
        """A network's process starts."""
        self._running[network.name] = time.monotonic()

    def done(self, network: Network, accuracy: float) -> None:
        """A network is finished, here or, where it was not started here, by another run."""
        began = self._running.pop(network.name, None)
        took = "elsewhere"
        if began is not None:
            self._took[network] = time.monotonic() - began
            took = f"{self._took[network]:.0f} s"
        self._count += 1
        self._finished.add(network)
        self.console.print(
            f"{self._count:3d}/{self._total}  {network.name:24s} accuracy {accuracy:.3f}  {took}  {self._time_left()}",
            highlight=False,
        )
        self._printed = time.monotonic()

    def failed(self, network: Network, why: str, again: bool) -> None:
        """A network has ended without a result; ``again``: it is put back to be tried once more."""
        self._running.pop(network.name, None)
        self.console.print(f"{'':7}  {network.name:24s} {'tried again' if again else 'failed'}: {why}", **_PLAIN)
        self._printed = time.monotonic()

    def put_back(self, network: Network) -> None:
        """A network has ended early and is no failure: asked to leave, lost with its machine, or trained elsewhere."""
        self._running.pop(network.name, None)

    def poll(self) -> None:
        """Show where the running networks are."""
        if self._live:
            lines = [Text(f"  {name:24s} {position(self._out, name)}") for name in self._running]
            head = Text(f"{self._count} of {self._total} networks done  {self._time_left()}", style="bold")
            self._live.update(Group(head, *lines), refresh=True)
        elif time.monotonic() - self._printed > PLAIN_INTERVAL_S:
            self._printed = time.monotonic()
            running = "; ".join(f"{name} {position(self._out, name)}" for name in self._running)
            self.console.print(f"{self._count:3d}/{self._total}  training {running}", highlight=False, soft_wrap=True)

    def _time_left(self) -> str:
        weights = self._weights()
        finished = sum(weights[network] for network in self._finished if network in weights)
        left = sum(weights.values()) - finished
        if not finished or len(self._finished) == len(weights):
            return ""
        wall_s = (time.monotonic() - self._began) * left / finished
        return f"about {wall_s / 60:.0f} min left" if wall_s > 90 else f"about {wall_s:.0f} s left"

    def _weights(self) -> dict[Network, float]:
        """How long each network takes, or what it costs where none has been trained here."""
        seconds: dict[tuple[bool, int], list[float]] = {}
        for network, took in self._took.items():
            seconds.setdefault(network.kind, []).append(took)
        known = sum(self._costs.get(network, 0.0) for network in self._took)
        rate = sum(self._took.values()) / known if known else 1.0
        return {
            network: mean(seconds[network.kind]) if network.kind in seconds else rate * cost
            for network, cost in self._costs.items()
        }


def position(out: Path, name: str) -> str:
    """Where the network in ``out/name`` is, by the last display that it has written."""
    # Imported here: it brings PyTorch, which --dry-run and a wrong option need not wait for.
    from caffe_compat.solver.events import TrainEvent, read_events

    try:
        events = list(read_events(out / name / METRICS, tail_bytes=TAIL_BYTES))
    except SolverError:
        return "starting"  # no file yet
    displays = [event for event in events if isinstance(event, TrainEvent)]
    return f"iteration {displays[-1].iteration}, loss {displays[-1].loss:.3f}" if displays else "starting"
