"""Every network of the experiment: its name, what it starts from, what it trains on, and the order.

The names are the authors' own.  ``half0A`` is trained from scratch on half A of split 0;
``transfer0A0B_1_4`` copies its layers 1 to 4, freezes them, and trains the rest on half B;
``transfer-ft0A0B_1_4`` trains all of them; ``nolearn_1_4`` freezes them as they were drawn.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

DEPTHS = tuple(range(1, 8))
TREATMENTS = ("base", "BnB", "AnB", "BnB+", "AnB+", "random")
#: more that can be asked for: the 1000-class reference network and the reduced data sets
EXTRA_TREATMENTS = ("netbase", "reduced")
REDUCED_SIZES = (1, 2, 5, 10, 25, 50, 100, 250, 500, 750, 1000, 1300)
WHOLE = "whole"


@dataclass(frozen=True)
class Network:
    """One network to train.

    ``n``: how many layers, from the input, are kept (copied or, for ``random``, as drawn).
    """

    name: str
    treatment: str  # of TREATMENTS; netbase and reduced-* are "base", as in the paper's table
    data: str  # the data set it is trained and tested on: half0A, whole, reduced-0001, ...
    split: str = ""
    base: str = ""  # half whose network the first n layers come from
    target: str = WHOLE  # half that it is trained on
    n: int = 0
    base_network: str = ""  # name of the network that must be trained before; "" for none
    family: str = "base"  # base, transfer, transfer-ft, nolearn, netbase, reduced

    @property
    def frozen(self) -> bool:
        """Whether the first n layers stay as they are."""
        return self.treatment in ("BnB", "AnB", "random")

    @property
    def test_data(self) -> str:
        """The data set that it is tested on: the reduced sets have the test images of all classes."""
        return WHOLE if self.family == "reduced" else self.data


def base_half(split: str, half: str) -> Network:
    """A network trained from scratch on one half."""
    name = f"half{split}{half}"
    return Network(name, "base", name, split, half, half)


def transfer(split: str, base: str, target: str, n: int, fine_tuned: bool = False) -> Network:
    """Layers 1 to n of the base network of one half, trained on with a half (the same or the other)."""
    pair = f"{base}{target}" if split == "natman" else f"{base}{split}{target}"
    family = "transfer-ft" if fine_tuned else "transfer"
    name = f"{family}{split}{pair}_1_{n}"
    treatment = ("BnB" if base == target else "AnB") + ("+" if fine_tuned else "")
    base_network, data = f"half{split}{base}", f"half{split}{target}"
    return Network(name, treatment, data, split, base, target, n, base_network, family)


def random_features(n: int) -> Network:
    """Layers 1 to n stay as they were drawn; all classes."""
    return Network(f"nolearn_1_{n}", "random", WHOLE, n=n, family="nolearn")


def reference() -> Network:
    """The network on all classes, written with padding layers."""
    return Network("netbase", "base", WHOLE, family="netbase")


def reduced(k: int) -> Network:
    """Trained on the first k images of each class; n holds k, as in the authors' table."""
    return Network(f"reduced-{k:04d}", "base", f"reduced-{k:04d}", n=k, family="reduced")


def paper_networks() -> list[Network]:
    """The 170 networks that the authors configured, in the order of their training."""
    halves = [base_half(split, half) for split in ("0", "1", "2", "3", "natman") for half in "AB"]
    three, cross = (("A", "A"), ("A", "B"), ("B", "A")), (("A", "B"), ("B", "A"))
    frozen = [transfer(s, base, target, n) for s in "0123" for base, target in three for n in DEPTHS]
    frozen += [transfer("natman", base, target, n) for base, target in cross for n in DEPTHS]
    fine_tuned = [transfer(s, base, target, n, True) for s in "01" for base, target in three for n in DEPTHS]
    rest = [*map(random_features, DEPTHS), reference(), *map(reduced, REDUCED_SIZES)]
    return halves + frozen + fine_tuned + rest


def split_networks(split: str, treatments: Iterable[str] = TREATMENTS, depths: Sequence[int] = DEPTHS) -> list[Network]:
    """The networks of one split, both directions, and the random features: 58 + 7 by default.

    Ordered so that each comes after its base network.  A base network that a chosen transfer
    needs is always there.
    """
    wanted = set(treatments)
    transfers = [
        transfer(split, base, target, n, fine_tuned)
        for n in depths
        for fine_tuned in (False, True)
        for base, target in ("AA", "BB", "AB", "BA")
    ]
    transfers = [network for network in transfers if network.treatment in wanted]
    needed = {network.base_network for network in transfers}
    halves = [base_half(split, half) for half in "AB"]
    networks = [network for network in halves if "base" in wanted or network.name in needed]
    networks += transfers
    if "random" in wanted:
        networks += map(random_features, depths)
    if "netbase" in wanted:
        networks.append(reference())
    if "reduced" in wanted:
        networks += map(reduced, REDUCED_SIZES)
    return networks
