"""Which networks are trained, and in which order: those of some splits, or the paper's own 170."""

from collections.abc import Iterable, Sequence

from caffe_compat.errors import DataError
from reproduce.network import DEPTHS, Network
from reproduce.splits import NATURAL_SPLIT, PAIR_SPLIT, RANDOM_SPLITS, SPLITS
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

#: what --split can say besides splits: each of them, or the paper's own choice of networks
ALL, PAPER = "all", "paper"


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


def planned_networks(
    split: str,
    treatments: Iterable[str] | None = None,
    depths: Sequence[int] = DEPTHS,
    more_seeds: Sequence[int] = (),
) -> list[Network]:
    """The networks of ``--split``: one split, several with commas, ``all``, or ``paper``, the authors' own 170 (or
    ``pair``, of --data-a and --data-b).

    ``treatments`` None: the default ones, for ``paper`` all.  Each network comes again with each of ``more_seeds``.
    Random features and the network on all classes, of which a seed makes one where it makes two of halves, come with as
    many seeds more, so that there are as many pairs.  In the order of training: seed by seed, split by split.
    DataError for a split that there is not.
    """
    if split == PAPER:
        networks = _with_bases(_of_paper(treatments, depths), paper_networks())
    else:
        names = (PAIR_SPLIT,) if split == PAIR_SPLIT else splits_of(split)
        networks = [n for name in names for n in split_networks(name, treatments, depths)]
    once = list({network.name: network for network in networks}.values())
    last = max(more_seeds, default=0)
    further = range(last + 1, last + 2 + len(more_seeds)) if more_seeds else ()
    alone = [network for network in once if RANDOM.of([network]) or NETBASE.of([network])]
    again = [network.with_seed(seed) for seed in more_seeds for network in once]
    again += [network.with_seed(seed) for seed in further for network in alone]
    return sorted(once + again, key=turn)


def splits_of(split: str) -> tuple[str, ...]:
    """The splits that ``--split`` names; DataError where one is none."""
    if split in (ALL, PAPER):
        return SPLITS
    names = tuple(split.split(","))
    for name in names:
        if name not in SPLITS:
            choices = ", ".join(SPLITS)
            raise DataError(
                f"--split {name}: there is no such split; choose one of {choices}, several with commas, {ALL}, or "
                f"{PAPER} (the authors' 170 networks)"
            )
    return names


def split_networks(
    split: str, treatments: Iterable[str] | None = None, depths: Sequence[int] = DEPTHS
) -> list[Network]:
    """The networks of one split, both directions, and the random features: 58 + 7 by default.

    The halves come first, then what starts from them, depth by depth, then the networks on all classes.
    A half's network that another one starts from is always there.
    """
    wanted = set(default_treatments() if treatments is None else treatments)
    made = [network for name in TREATMENTS if name in wanted for network in TREATMENTS[name].networks(split, depths)]
    return sorted(_with_bases(made, BASE.networks(split, depths)), key=turn)


def turn(network: Network) -> tuple[object, ...]:
    """Sorts networks into the order of their training, and of tables: by seed, split, depth and treatment."""
    splits = (*SPLITS, PAIR_SPLIT)
    split = splits.index(network.split) if network.split in splits else len(splits)
    starts = bool(network.base_network)
    kinds = [number for number, treatment in enumerate(TREATMENTS.values()) if treatment.of([network])]
    kind = kinds[0] if kinds else len(TREATMENTS)
    seed = -1 if network.seed is None else network.seed
    n = network.n
    return seed, split, starts, n if starts else 0, kind, n, network.base, network.target, network.name


def _of_paper(treatments: Iterable[str] | None, depths: Sequence[int]) -> list[Network]:
    """The authors' networks of these treatments, cut at these depths."""
    wanted = TREATMENTS if treatments is None else set(treatments)
    chosen = [TREATMENTS[name] for name in TREATMENTS if name in wanted]
    uncut = {network.name for treatment in chosen for network in treatment.networks(SPLITS[0], ())}
    uncut |= {network.name for split in SPLITS for network in BASE.networks(split, ())}
    networks = [network for network in paper_networks() if any(t.of([network]) for t in chosen)]
    return [network for network in networks if network.name in uncut or network.n in depths]


def _with_bases(networks: Sequence[Network], bases: Iterable[Network]) -> list[Network]:
    """The networks, and those of ``bases`` that one of them starts from."""
    names, needed = {network.name for network in networks}, {network.base_network for network in networks}
    return [*networks, *(base for base in bases if base.name in needed - names)]
