"""Which classes are half A and half B of a split, for any number of classes."""

from collections.abc import Sequence

import numpy as np

from caffe_compat.errors import DataError

RANDOM_SPLITS = ("0", "1", "2", "3")
NATURAL_SPLIT = "natman"
SPLITS = (*RANDOM_SPLITS, NATURAL_SPLIT)
#: of --data-a and --data-b: each half is a data set
PAIR_SPLIT = "pair"
#: whose names of networks say the split once: transfernatmanAB_1_3
NAMED_SPLITS = (NATURAL_SPLIT, PAIR_SPLIT)
IMAGENET_CLASSES = 1000
#: the class indices of the paper's natural half (449 of ImageNet's 1000, in synset order)
NATURAL_CLASSES = (*range(398), *range(936, 959), 970, *range(972, 999))


def half_classes(split: str, classes: int, natural: Sequence[int] = ()) -> dict[str, np.ndarray]:
    """``{"A": ..., "B": ...}``, sorted class indices (int64) of the two halves of ``range(classes)``.

    Splits 0 to 3 are drawn by the paper's rule.  ``natman`` has the natural classes in A and the
    man-made ones in B: the paper's own for 1000 classes, else ``natural``.  ``pair`` has ``natural``, the classes of
    the first data set, in A, too.  Raises DataError for another split, for fewer than 4 classes, and for natman without
    natural classes.
    """
    if split != PAIR_SPLIT:
        check_split(split)
    if classes < 4:
        raise DataError(f"the data have {classes} classes; expected at least 4, two for each half")
    if split not in NAMED_SPLITS:
        half_a, half_b = random_half_classes(int(split), classes)
    elif natural:
        half_a = np.array(sorted(natural))
        half_b = np.setdiff1d(np.arange(classes), half_a)
    elif classes == IMAGENET_CLASSES:
        half_a, half_b = natural_half_classes()
    else:
        raise DataError(
            "--split natman: these data do not say which classes are natural; "
            "name them, one a line, in natural.txt beside the class folders, or choose a random split"
        )
    if min(len(half_a), len(half_b)) < 2:
        raise DataError(
            f"--split {split}: halves of {len(half_a)} and {len(half_b)} classes; expected 2 or more in each"
        )
    return {"A": half_a, "B": half_b}


def check_split(split: str) -> None:
    """DataError unless ``split`` is one of SPLITS."""
    if split not in SPLITS:
        raise DataError(f"--split {split}: there is no such split; choose one of {', '.join(SPLITS)}")


def random_half_classes(split: int, classes: int = IMAGENET_CLASSES) -> tuple[np.ndarray, np.ndarray]:
    """The two halves (A, B) of ``range(classes)`` for random split ``split``, each sorted (int64).

    The seed is the one-element list ``[split]``: the integer gives another stream, and with it
    the authors' lists are not met.
    """
    drawn = np.random.RandomState([split]).choice(np.arange(classes), classes // 2, replace=False)
    half_a = np.sort(drawn)
    return half_a, np.setdiff1d(np.arange(classes), half_a)


def natural_half_classes() -> tuple[np.ndarray, np.ndarray]:
    """(natural, man-made): the authors' halves A and B of ImageNet's 1000 classes (int64)."""
    natural = np.array(NATURAL_CLASSES)
    return natural, np.setdiff1d(np.arange(IMAGENET_CLASSES), natural)
