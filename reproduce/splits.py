"""Which classes are half A and half B of a split, for any number of classes."""

from collections.abc import Sequence

import numpy as np

from caffe_compat.data.subset import natural_half_classes, random_half_classes
from caffe_compat.errors import DataError

SPLITS = ("0", "1", "2", "3", "natman")
IMAGENET_CLASSES = 1000


def half_classes(split: str, classes: int, natural: Sequence[int] = ()) -> dict[str, np.ndarray]:
    """``{"A": ..., "B": ...}``, sorted class indices of the two halves of ``range(classes)``.

    Splits 0 to 3 are drawn by the paper's rule.  ``natman`` has the natural classes in A and the
    man-made ones in B: the paper's own for 1000 classes, else ``natural``.  Raises DataError for
    another split, for fewer than 4 classes, and for natman without natural classes.
    """
    if split not in SPLITS:
        raise DataError(f"--split {split}: there is no such split; choose one of {', '.join(SPLITS)}")
    if classes < 4:
        raise DataError(f"the data have {classes} classes; expected at least 4, two for each half")
    if split != "natman":
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
