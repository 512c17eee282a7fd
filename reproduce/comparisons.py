"""Means, differences between networks that share a base, their intervals, and what these say of the paper's claims.

Networks differ by their seeds, so that means alone prove nothing.  A network is compared with another one of the same
seed, split and half, the interval of the mean difference is bootstrapped, and a claim has a verdict only where its
interval leaves zero out.
"""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

import numpy as np

from caffe_compat.atomic_file import write_text
from reproduce.results import Result, of_kind
from reproduce.splits import PAIR_SPLIT
from reproduce.treatments import (
    BASE,
    CROSS,
    CROSS_TUNED,
    NETBASE,
    RANDOM,
    REDUCED,
    SELFFER,
    SELFFER_TUNED,
    TREATMENTS,
    Treatment,
)

#: of an interval
COVERAGE = 0.95
#: fewer differences than that say nothing at this level, even if all have one sign: 2 * 0.5**5 is above 0.05
LEAST_PAIRS = 6
RESAMPLES = 10_000
COLUMNS = ("halves", "treatment", "n", "networks", "mean", "sd", "pairs", "difference", "low", "high")

#: what networks have in common that are compared: seed, split, half that they are trained on
Key = tuple[str, str, str]


@dataclass(frozen=True)
class Difference:
    """The mean of some differences, and its interval where there are enough of them."""

    pairs: int
    mean: float
    low: float | None = None
    high: float | None = None

    def text(self) -> str:
        """In points of 100, as ``-3.4 (-5.0 to -1.9), 8 pairs``."""
        ends = "" if self.low is None or self.high is None else f" ({100 * self.low:+.1f} to {100 * self.high:+.1f})"
        return f"{100 * self.mean:+.1f}{ends}, {self.pairs} pair{'' if self.pairs == 1 else 's'}"


@dataclass(frozen=True)
class Line:
    """One treatment at one depth."""

    halves: str  # random, natural or pair
    treatment: str
    n: int
    networks: int
    mean: float
    sd: float | None  # between networks; None for one
    difference: Difference | None  # from the base networks; None for these, and where none is there


@dataclass(frozen=True)
class Verdict:
    """What a run says of one claim of the paper."""

    claim: str
    difference: Difference | None  # None: the networks for it are not there
    sign: int  # of the difference as claimed

    def text(self) -> str:
        """The verdict, and what it is made of."""
        return f"{self.verdict}; {self.difference.text()}" if self.difference else self.verdict

    @property
    def verdict(self) -> str:
        """In words; a side is taken only where the interval leaves zero out."""
        if self.difference is None:
            return "not run"
        low, high = self.difference.low, self.difference.high
        if low is None or high is None:
            return f"open: {LEAST_PAIRS} pairs or more are needed (--seeds)"
        if low <= 0 <= high:
            return "open: the interval has zero in it"
        return "shown" if (low > 0) == (self.sign > 0) else "contradicted"


def bootstrap(differences: Sequence[float]) -> Difference:
    """Their mean with a percentile bootstrap interval (95 %); without one for fewer than six.

    Resampled means vary less than means of new samples by (k - 1) / k, which is put right.
    """
    k, centre = len(differences), mean(differences)
    if k < LEAST_PAIRS:
        return Difference(k, centre)
    # Seeded here, and for itself: the same differences have the same interval.
    chosen = np.random.default_rng(0).integers(k, size=(RESAMPLES, k))
    means = np.asarray(differences)[chosen].mean(axis=1)
    low, high = np.quantile(means, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
    wider = (k / (k - 1)) ** 0.5
    return Difference(k, centre, centre + wider * (float(low) - centre), centre + wider * (float(high) - centre))


def lines(results: Sequence[Result]) -> list[Line]:
    """Means and differences from base, for random halves and for natural/man-made ones."""
    found = []
    for halves, natural in (("random", False), ("natural", True)):
        rows = [row for row in of_kind(results, natural) if row.split or not natural]
        if any(row.split == PAIR_SPLIT for row in rows):
            halves = PAIR_SPLIT
        for treatment in TREATMENTS.values():
            mine = treatment.of(rows)
            for n in sorted({row.n for row in mine}):
                found.append(_line(halves, treatment, n, [row for row in mine if row.n == n], rows))
    return found


def _line(halves: str, treatment: Treatment, n: int, mine: Sequence[Result], rows: Sequence[Result]) -> Line:
    accuracies = [row.accuracy for row in mine]
    difference = None
    if treatment not in (BASE, NETBASE, REDUCED):
        base = NETBASE if treatment is RANDOM else BASE
        difference = paired(_by_key(mine), _by_key(base.of(rows)))
    sd = stdev(accuracies) if len(mine) > 1 else None
    return Line(halves, treatment.name, n, len(mine), mean(accuracies), sd, difference)


def verdicts(results: Sequence[Result]) -> list[Verdict]:
    """The paper's claims about random halves and random features, held against a run's results."""
    rows = of_kind(results, natural=False)
    return [Verdict(claim.text, claim.measure(rows), claim.sign) for claim in CLAIMS]


def paired(ours: Mapping[Key, float], theirs: Mapping[Key, float]) -> Difference | None:
    """Ours minus theirs, seed by seed, split by split, half by half; None where no two belong together."""
    differences = [ours[key] - theirs[key] for key in sorted(ours) if key in theirs]
    return bootstrap(differences) if differences else None


def _by_key(rows: Iterable[Result]) -> dict[Key, float]:
    """Accuracy of each seed, split and half; the rows have one depth."""
    return {_key(row): row.accuracy for row in rows}


def _key(row: Result) -> Key:
    """The seed is the one that the name says: "" for the run's own."""
    return row.network.partition("-seed")[2], row.split, row.target


@dataclass(frozen=True)
class Claim:
    """A sentence of the paper as a difference of two groups of networks.

    ``ours``, ``theirs``: depths; () for all, in a comparison of two treatments those that both have.
    """

    text: str
    sign: int
    treatment: Treatment
    against: Treatment
    ours: tuple[int, ...] = ()
    theirs: tuple[int, ...] = ()

    def measure(self, rows: Sequence[Result]) -> Difference | None:
        """The paired difference; a pair counts where all its networks are there.  None without any pair."""
        ours, theirs = _by_depth(self.treatment.of(rows)), _by_depth(self.against.of(rows))
        left, right = dict[Key, float](), dict[Key, float]()
        for key in ours.keys() & theirs.keys():
            both = tuple(ours[key].keys() & theirs[key].keys())
            mine = self.ours or (tuple(ours[key]) if self.against is BASE else both)
            other = self.theirs or (tuple(theirs[key]) if self.against is BASE else both)
            if set(mine) <= ours[key].keys() and set(other) <= theirs[key].keys() and mine and other:
                left[key] = mean(ours[key][n] for n in mine)
                right[key] = mean(theirs[key][n] for n in other)
        return paired(left, right)


def _by_depth(rows: Iterable[Result]) -> dict[Key, dict[int, float]]:
    """Accuracy of each seed, split and half at each depth."""
    groups: dict[Key, dict[int, float]] = {}
    for row in rows:
        groups.setdefault(_key(row), {})[row.n] = row.accuracy
    return groups


CLAIMS = (
    Claim("random features collapse with depth: n = 7 is below n = 1", -1, RANDOM, RANDOM, (7,), (1,)),
    Claim("features grow specific: AnB at n = 7 is below base", -1, CROSS, BASE, (7,)),
    Claim("more is lost than by co-adaptation: AnB at n = 7 is below BnB at n = 7", -1, CROSS, SELFFER, (7,), (7,)),
    Claim("fragile co-adaptation: BnB at n = 4 and 5 is below base", -1, SELFFER, BASE, (4, 5)),
    Claim("co-adaptation is gone at the top: BnB at n = 7 is above n = 4 and 5", 1, SELFFER, SELFFER, (7,), (4, 5)),
    Claim("transfer helps: AnB+ over all n is above base", 1, CROSS_TUNED, BASE),
    Claim("transfer helps more than retraining: AnB+ over all n is above BnB+", 1, CROSS_TUNED, SELFFER_TUNED),
)


def write_comparisons(found: Sequence[Line], file: Path) -> None:
    """Write ``differences.csv``, a line for each treatment and depth; whole or not at all."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for line in found:
        d = line.difference
        rest = (d.pairs, d.mean, d.low, d.high) if d else (0, None, None, None)
        row = (line.halves, line.treatment, line.n, line.networks, line.mean, line.sd, *rest)
        writer.writerow(["" if cell is None else cell for cell in row])
    write_text(file, text.getvalue())
