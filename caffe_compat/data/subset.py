"""Which classes and images belong to a subset, and small index files that hold one.

The rules are those of Yosinski et al., NIPS 2014: random halves, a natural/man-made half, and
the first k images of each class.  Lists have one ``name label`` line per image.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from caffe_compat.errors import DataError

#: the class indices of the paper's natural half (449 of ImageNet's 1000, in synset order)
NATURAL_CLASSES = (*range(398), *range(936, 959), 970, *range(972, 999))


def random_half_classes(split: int, classes: int = 1000) -> tuple[np.ndarray, np.ndarray]:
    """The two halves (A, B) of ``range(classes)`` for random split ``split``, each sorted (int64).

    The seed is the one-element list ``[split]``: the integer gives another stream, and with it
    the authors' lists are not met.
    """
    draw = np.random.RandomState([split]).choice(np.arange(classes), classes // 2, replace=False)
    half_a = np.sort(draw)
    return half_a, np.setdiff1d(np.arange(classes), half_a)


def natural_half_classes() -> tuple[np.ndarray, np.ndarray]:
    """(natural, man-made): the authors' halves A and B of ImageNet's 1000 classes."""
    natural = np.array(NATURAL_CLASSES)
    return natural, np.setdiff1d(np.arange(1000), natural)


def parse_list_line(line: str) -> tuple[str, int]:
    """``(name, label)`` of a list line; the label is what follows the last space.

    Raises DataError when there is no label.
    """
    name, space, label = line.rpartition(" ")
    try:
        if not space:
            raise ValueError(line)
        return name, int(label)
    except ValueError:
        raise DataError(f"list line {line!r}: expected `name label` with a whole number as label") from None


def subset_list(lines: Iterable[str], classes: Sequence[int] | np.ndarray) -> list[str]:
    """The lines whose label is in ``classes``, in their order, labels re-numbered 0, 1, ... in
    increasing order of the original label."""
    number = {int(label): index for index, label in enumerate(sorted(int(c) for c in classes))}
    chosen = []
    for line in lines:
        name, label = parse_list_line(line)
        if label in number:
            chosen.append(f"{name} {number[label]}")
    return chosen


def reduced_list(lines: Iterable[str], k: int) -> list[str]:
    """The first ``k`` lines of each class, in their order."""
    seen: Counter[int] = Counter()
    chosen = []
    for line in lines:
        label = parse_list_line(line)[1]
        seen[label] += 1
        if seen[label] <= k:
            chosen.append(line)
    return chosen
