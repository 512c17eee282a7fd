"""How a network went: its training loss and its test accuracy by iteration, and when."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import mean

from reproduce.network import Network
from reproduce.results import Log

#: what a curve of the report is thinned to
MOST_POINTS = 60

#: (iteration, value), iterations ascending
Curve = Sequence[tuple[int, float]]


@dataclass(frozen=True, kw_only=True)
class Course:
    """One network's curves, thinned, and its times in seconds since 1970 (0: not known)."""

    network: str
    loss: Curve  # of training, smoothed as in the log
    accuracy: Curve  # of the tests, from 0 to 1
    began_s: float = 0.0
    ended_s: float = 0.0


def course_of(network: Network, log: Log) -> Course:
    """The course of a network, from its log."""
    return Course(
        network=network.name,
        loss=thinned(log.training_loss.items()),
        accuracy=thinned(log.accuracy.items()),
        began_s=log.began_s,
        ended_s=log.ended_s,
    )


def thinned(curve: Iterable[tuple[int, float]], most: int = MOST_POINTS) -> list[tuple[int, float]]:
    """At most so many points: the first, the last, and the means of equal runs of those between them."""
    points = list(curve)
    if len(points) <= most:
        return points
    inner, parts = points[1:-1], most - 2
    found = [points[0]]
    for i in range(parts):
        part = inner[i * len(inner) // parts : (i + 1) * len(inner) // parts]
        found.append((round(mean(x for x, _ in part)), mean(y for _, y in part)))
    return [*found, points[-1]]
