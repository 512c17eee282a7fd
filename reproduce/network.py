"""One network of the experiment: its name, what it starts from, what it trains on.

The names are the authors' own.  ``half0A`` is trained from scratch on half A of split 0;
``transfer0A0B_1_4`` copies its layers 1 to 4, freezes them, and trains the rest on half B;
``transfer-ft0A0B_1_4`` trains all of them; ``nolearn_1_4`` freezes them as they were drawn.
"""

from dataclasses import dataclass, replace

#: at which of the eight learned layers a network can be cut
DEPTHS = tuple(range(1, 8))
#: images per class of the reduced data sets; the last is all of them
REDUCED_SIZES = (1, 2, 5, 10, 25, 50, 100, 250, 500, 750, 1000, 1300)
#: the data set of all classes and images
WHOLE = "whole"


@dataclass(frozen=True, kw_only=True)
class Network:
    """One network to train."""

    name: str
    treatment: str  # as the table has it; netbase and reduced-* are "base" there, as in the authors' table
    family: str  # whose prototxts it is made from, where they are not the base networks'; half0A's is "base"
    data: str  # the data set it is trained and tested on: half0A, whole, reduced-0001, ...
    split: str = ""
    base: str = ""  # half whose network the first n layers come from
    target: str = WHOLE  # half that it is trained on
    n: int = 0  # how many layers, from the input, are kept: copied or, for nolearn_*, as drawn
    base_network: str = ""  # name of the network that must be trained before; "" for none
    frozen: bool = False  # whether the first n layers stay as they are
    tuned: int = 0  # how many layers above these are copied, too, and trained on
    images_per_class: int = 0  # training images of each class, the first ones; 0 for all
    seed: int | None = None  # its own, where a run has several; None: the run's

    @property
    def test_data(self) -> str:
        """The data set that it is tested on: a reduced set has the test images of all classes."""
        return WHOLE if self.images_per_class else self.data

    @property
    def mean_data(self) -> str:
        """The data set whose mean image it subtracts: its own, and in a transfer network its base network's."""
        return f"half{self.split}{self.base}" if self.base_network else self.data

    @property
    def images(self) -> tuple[str, str, str, int | None]:
        """Networks of which this is the same read the same images, less the same mean, and may do so side by side."""
        return self.data, self.test_data, self.mean_data, self.seed

    @property
    def kind(self) -> tuple[bool, int]:
        """(whether layers are frozen, how many): networks of one kind take about as long as each other."""
        return (True, self.n) if self.frozen else (False, 0)

    def with_seed(self, seed: int) -> "Network":
        """The same network once more with another seed, beside the first: ``half0A-seed1``."""
        base = f"{self.base_network}-seed{seed}" if self.base_network else ""
        return replace(self, name=f"{self.name}-seed{seed}", base_network=base, seed=seed)
