"""Which networks are trained, and in which order: the paper's own 170, or those of one split."""

from collections.abc import Iterable, Sequence

from reproduce.network import DEPTHS, Network
from reproduce.splits import NATURAL_SPLIT, RANDOM_SPLITS, SPLITS
from reproduce.treatments import (
    BASE,
    NETBASE,
    RANDOM,
    REDUCED,
    TREATMENTS,
    base_half,
    default_treatments,
    transfer,
)


def paper_networks() -> list[Network]:
    """The 170 networks that the authors configured, in the order of their training."""
    halves = [base_half(split, half) for split in SPLITS for half in "AB"]
    three, cross = (("A", "A"), ("A", "B"), ("B", "A")), (("A", "B"), ("B", "A"))
    frozen = [transfer(s, base, target, n) for s in RANDOM_SPLITS for base, target in three for n in DEPTHS]
    frozen += [transfer(NATURAL_SPLIT, base, target, n) for base, target in cross for n in DEPTHS]
    fine_tuned = [transfer(s, base, target, n, True) for s in "01" for base, target in three for n in DEPTHS]
    on_all_classes = (RANDOM, NETBASE, REDUCED)
    rest = [network for treatment in on_all_classes for network in treatment.networks("", DEPTHS)]
    return halves + frozen + fine_tuned + rest


def split_networks(
    split: str, treatments: Iterable[str] | None = None, depths: Sequence[int] = DEPTHS
) -> list[Network]:
    """The networks of one split, both directions, and the random features: 58 + 7 by default.

    The halves come first, then what starts from them, depth by depth, then the networks on all classes.
    A half's network that another one starts from is always there.
    """
    wanted = set(default_treatments() if treatments is None else treatments)
    made = [network for name in TREATMENTS if name in wanted for network in TREATMENTS[name].networks(split, depths)]
    names, needed = {network.name for network in made}, {network.base_network for network in made}
    made += [half for half in BASE.networks(split, depths) if half.name in needed - names]
    return sorted(made, key=_turn)


def _turn(network: Network) -> tuple[int, int]:
    """Sorts networks into the order of their training."""
    if network.base_network:
        return 1, network.n
    return (0, 0) if network.split else (2, 0)
