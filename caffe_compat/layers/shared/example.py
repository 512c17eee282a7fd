"""Random valid examples of a layer type, which the class itself declares (``Layer.example``).

The differential test runs every registered type on them: float32 against float64, each ``engine``, each device.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Choice = TypeVar("Choice")


class Dice:
    """The random choices of one example; they depend on the type's name and a number only."""

    def __init__(self, layer_type: str, number: int) -> None:
        self.rng = np.random.default_rng([zlib.crc32(layer_type.encode()), number])

    def pick(self, *choices: Choice) -> Choice:
        """One of them."""
        return choices[self.rng.integers(len(choices))]

    def integer(self, least: int, most: int) -> int:
        """A whole number, both ends included."""
        return int(self.rng.integers(least, most + 1))

    def number(self, least: float, most: float) -> float:
        """A number with three digits behind the point."""
        return round(float(self.rng.uniform(least, most)), 3)

    def switch(self) -> str:
        """``true`` or ``false``, as a prototxt has them."""
        return self.pick("true", "false")

    def shape(self, least: int = 1, most: int = 4) -> tuple[int, ...]:
        """``least`` to ``most`` axes of 1 to 5."""
        return tuple(self.integer(1, 5) for _ in range(self.integer(least, most)))

    def image(self, channels: int | None = None) -> tuple[int, ...]:
        """(N, C, H, W) with H and W from 5 to 9."""
        return self.integer(1, 3), channels or self.integer(1, 6), self.integer(5, 9), self.integer(5, 9)

    def axis(self, rank: int) -> int:
        """Any axis of a blob with ``rank`` axes, counted from either end."""
        return self.integer(-rank, rank - 1)

    def normal(self, *shape: int) -> Array:
        """Normal numbers."""
        return self.rng.standard_normal(shape).astype(np.float32)

    def positive(self, *shape: int) -> Array:
        """Numbers of at least 0.1."""
        return np.abs(self.normal(*shape)) + np.float32(0.1)

    def probabilities(self, *shape: int) -> Array:
        """Positive numbers that sum to 1 along axis 1."""
        values = self.positive(*shape)
        result: Array = values / values.sum(1, keepdims=True)
        return result

    def indices(self, limit: int, *shape: int) -> Array:
        """Whole numbers from 0 to limit - 1: labels, rows of a table, flags."""
        return self.rng.integers(0, limit, shape).astype(np.float32)


@dataclass
class Example:
    """A layer and bottoms for it.

    ``fields``: of the LayerParameter, as prototxt text, without names of blobs.  ``positive_blobs``: whether its
    parameters must be positive (variances).
    """

    fields: str
    bottoms: Sequence[npt.NDArray[Any]]
    tops: int = 1
    positive_blobs: bool = False
