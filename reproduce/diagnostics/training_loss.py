"""How well a network fits its training images at the end, from its log."""

from pathlib import Path
from statistics import mean

from caffe_compat.solver.events import TrainEvent, read_events
from reproduce.network import Network
from reproduce.results import METRICS

#: the part of the run, at its end, whose displays are averaged
LAST = 0.1


def final_training_loss(network: Network, out: Path) -> float | None:
    """The mean of the losses that the log shows in the last tenth of a finished run; None where it shows none.

    As trained: with dropout, each on one batch (or ``average_loss`` of them).  Raises SolverError for a damaged log.
    """
    losses: dict[int, float] = {}
    last = 0
    for event in read_events(out / network.name / METRICS):
        last = max(last, event.iteration)
        if isinstance(event, TrainEvent):  # after a kill iterations come again; the later ones count
            losses[event.iteration] = event.loss
    shown = [loss for iteration, loss in losses.items() if iteration >= (1 - LAST) * last]
    return mean(shown) if shown else None
