"""The treatments: each is one object here, with its name, its looks in the figures, and the networks that it makes.

A new treatment is one more object in TREATMENTS; the plan, the table, the figures, the report and ``--help`` read
everything from it.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from reproduce.network import REDUCED_SIZES, WHOLE, Network
from reproduce.splits import NAMED_SPLITS


class Row(Protocol):
    """A network, or its row of the table."""

    @property
    def treatment(self) -> str:
        """As the table has it."""

    @property
    def family(self) -> str:
        """As in Network."""


AnyRow = TypeVar("AnyRow", bound=Row)


@dataclass(frozen=True)
class Mark:
    """How a treatment is drawn; ``marker`` and the colours are matplotlib's."""

    marker: str
    fill: str
    edge: str  # colour of the marker's edge and of the line
    shift: float = 0.0  # to the side, in units of n, so that markers do not cover each other
    plus: bool = False  # a plus sign on it
    line: bool = False  # its means are joined by a line in the lower part of Fig. 2


@dataclass(frozen=True, kw_only=True)
class Treatment(ABC):
    """What is done to the first n layers of a network, and to the rest."""

    name: str  # in --treatments
    label: str  # in legends
    family: str  # of its networks
    frozen: bool = False  # whether the first n layers stay as they are
    column: str = ""  # what the table's column ``treatment`` says; "": the name
    default: bool = True  # trained unless --treatments says otherwise
    mark: Mark | None = None  # None: has no place among the accuracies at each n

    @abstractmethod
    def networks(self, split: str, depths: Sequence[int]) -> list[Network]:
        """The networks of one split, cut at ``depths``."""

    @property
    def in_table(self) -> str:
        """What the table's column ``treatment`` says."""
        return self.column or self.name

    def of(self, rows: Iterable[AnyRow]) -> list[AnyRow]:
        """Those networks or results that are of this treatment."""
        return [row for row in rows if (row.treatment, row.family) == (self.in_table, self.family)]


@dataclass(frozen=True, kw_only=True)
class Base(Treatment):
    """Trained from scratch on one half."""

    def networks(self, split: str, depths: Sequence[int]) -> list[Network]:
        """One of each half."""
        return [self.network(split, half) for half in "AB"]

    def network(self, split: str, half: str) -> Network:
        """The network of one half."""
        name = f"half{split}{half}"
        return Network(
            name=name, treatment=self.in_table, family=self.family, data=name, split=split, base=half, target=half
        )


@dataclass(frozen=True, kw_only=True)
class Transfer(Treatment):
    """Starts with layers 1 to n of the base network of one half; trained on with a half, the same or the other."""

    pairs: tuple[tuple[str, str], ...]  # (base, target) of each network: the halves
    tuned: int = 0  # how many layers above the first n are copied, too, and trained on

    def networks(self, split: str, depths: Sequence[int]) -> list[Network]:
        """Both directions at each depth."""
        return [self.network(split, base, target, n) for n in depths for base, target in self.pairs]

    def network(self, split: str, base: str, target: str, n: int) -> Network:
        """The network of one direction, cut at layer n."""
        pair = f"{base}{target}" if split in NAMED_SPLITS else f"{base}{split}{target}"
        return Network(
            name=f"{self.family}{split}{pair}_1_{n}",
            treatment=self.in_table,
            family=self.family,
            data=f"half{split}{target}",
            split=split,
            base=base,
            target=target,
            n=n,
            base_network=f"half{split}{base}",
            frozen=self.frozen,
            tuned=self.tuned,
        )


@dataclass(frozen=True, kw_only=True)
class Random(Treatment):
    """Layers 1 to n stay as they were drawn; all classes."""

    def networks(self, split: str, depths: Sequence[int]) -> list[Network]:
        """One at each depth, the same for all splits."""
        return [self.network(n) for n in depths]

    def network(self, n: int) -> Network:
        """The network with n layers as they were drawn."""
        return Network(
            name=f"{self.family}_1_{n}",
            treatment=self.in_table,
            family=self.family,
            data=WHOLE,
            n=n,
            frozen=self.frozen,
        )


@dataclass(frozen=True, kw_only=True)
class Reference(Treatment):
    """The network on all classes, written with padding layers."""

    def networks(self, split: str, depths: Sequence[int]) -> list[Network]:
        """One, the same for all splits."""
        return [self.network()]

    def network(self) -> Network:
        """The network."""
        return Network(name=self.name, treatment=self.in_table, family=self.family, data=WHOLE)


@dataclass(frozen=True, kw_only=True)
class Reduced(Treatment):
    """Trained on the first images of each of all classes."""

    def networks(self, split: str, depths: Sequence[int]) -> list[Network]:
        """One of each size, the same for all splits."""
        return [self.network(size) for size in REDUCED_SIZES]

    def network(self, size: int) -> Network:
        """The network of the first ``size`` images of each class; n holds ``size``, as in the authors' table."""
        name = f"{self.family}-{size:04d}"
        return Network(name=name, treatment=self.in_table, family=self.family, data=name, n=size, images_per_class=size)


SAME_HALF, OTHER_HALF = (("A", "A"), ("B", "B")), (("A", "B"), ("B", "A"))

BASE = Base(name="base", label="base", family="base", mark=Mark("o", "white", "black"))
SELFFER = Transfer(
    name="BnB",
    label="selffer BnB",
    family="transfer",
    frozen=True,
    pairs=SAME_HALF,
    mark=Mark("o", "#1f3b8c", "#1f3b8c", -0.15, line=True),
)
CROSS = Transfer(
    name="AnB",
    label="transfer AnB",
    family="transfer",
    frozen=True,
    pairs=OTHER_HALF,
    mark=Mark("D", "#8c1f1f", "#8c1f1f", 0.05, line=True),
)
SELFFER_TUNED = Transfer(
    name="BnB+",
    label="selffer BnB+",
    family="transfer-ft",
    pairs=SAME_HALF,
    mark=Mark("o", "#9cc3ee", "#1f3b8c", -0.05, plus=True, line=True),
)
CROSS_TUNED = Transfer(
    name="AnB+",
    label="transfer AnB+",
    family="transfer-ft",
    pairs=OTHER_HALF,
    mark=Mark("D", "#f0a8a0", "#8c1f1f", 0.15, plus=True, line=True),
)
RANDOM = Random(
    name="random", label="random features", family="nolearn", frozen=True, mark=Mark("s", "#b0b0b0", "#505050")
)
# The authors' control, which they mention and have not published: if a frozen layer suffers from having new neighbours,
# layers kept above the cut, free to learn, mend it.
SELFFER_ONE = Transfer(
    name="BnB+1",
    label="selffer BnB, the next layer kept and trained on",
    family="transfer-keepone",
    frozen=True,
    pairs=SAME_HALF,
    tuned=1,
    default=False,
    mark=Mark("^", "#56b4e9", "#0072b2", -0.2, line=True),
)
SELFFER_TWO = Transfer(
    name="BnB+2",
    label="selffer BnB, the next two kept and trained on",
    family="transfer-keeptwo",
    frozen=True,
    pairs=SAME_HALF,
    tuned=2,
    default=False,
    mark=Mark("v", "white", "#0072b2", -0.25, line=True),
)
CROSS_ONE = Transfer(
    name="AnB+1",
    label="transfer AnB, the next layer kept and trained on",
    family="transfer-keepone",
    frozen=True,
    pairs=OTHER_HALF,
    tuned=1,
    default=False,
    mark=Mark("^", "#e69f00", "#a05000", 0.2, line=True),
)
CROSS_TWO = Transfer(
    name="AnB+2",
    label="transfer AnB, the next two kept and trained on",
    family="transfer-keeptwo",
    frozen=True,
    pairs=OTHER_HALF,
    tuned=2,
    default=False,
    mark=Mark("v", "white", "#a05000", 0.25, line=True),
)
NETBASE = Reference(name="netbase", label="all classes", family="netbase", column="base", default=False)
REDUCED = Reduced(name="reduced", label="reduced sets", family="reduced", column="base", default=False)

#: every treatment by its name, in the order of training and of tables
TREATMENTS: dict[str, Treatment] = {
    treatment.name: treatment
    for treatment in (
        *(BASE, SELFFER, CROSS, SELFFER_TUNED, CROSS_TUNED, RANDOM, NETBASE, REDUCED),
        *(SELFFER_ONE, CROSS_ONE, SELFFER_TWO, CROSS_TWO),
    )
}


def default_treatments() -> tuple[str, ...]:
    """Names of those that are trained unless the command line says otherwise."""
    return tuple(name for name, treatment in TREATMENTS.items() if treatment.default)


def base_half(split: str, half: str) -> Network:
    """``half0A``, ...: trained from scratch on one half."""
    return BASE.network(split, half)


def transfer(split: str, base: str, target: str, n: int, fine_tuned: bool = False) -> Network:
    """``transfer0A0B_1_4``, ``transfer-ft0A0B_1_4``, ...: layers 1 to n from ``base``, trained on with ``target``."""
    frozen, tuned = (SELFFER, SELFFER_TUNED) if base == target else (CROSS, CROSS_TUNED)
    return (tuned if fine_tuned else frozen).network(split, base, target, n)
