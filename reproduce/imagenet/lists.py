"""Lists of images, one line ``name label`` each, and the paper's subsets of ImageNet's: halves and reduced sets."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from caffe_compat.errors import DataError
from reproduce.network import REDUCED_SIZES, WHOLE
from reproduce.splits import (
    IMAGENET_CLASSES,
    NATURAL_SPLIT,
    RANDOM_SPLITS,
    natural_half_classes,
    random_half_classes,
)

#: MD5 of the authors' lists: {subset: (train, valid)}; the reduced ones have a train list only
LIST_MD5: dict[str, tuple[str, str | None]] = {
    "whole": ("3be8e5d8cbd932cc295ec175d5110921", "b6284a7c08fba47457c2c1f6049a156e"),
    "half0A": ("83f4e664c68213ba43dd9b4465dd7d4e", "2f10009e20d77eb7007cf70674958b94"),
    "half0B": ("0a9e2917a5f10bdbf22974f4b1fc17ce", "cce39b383d681345c873faf2c0c28d33"),
    "half1A": ("8926a880165726455c5639e4813a2d3b", "9ab48b6420504e32ff4498e7d8569f8b"),
    "half1B": ("b95d534d95151f4fae7610d25d6377fd", "57522f5e2aa69547846089f5197c8a6b"),
    "half2A": ("61ffa67fe88e307ac1c5639a087fdf1b", "03d05b6565ab9176baccdd05d746bfd1"),
    "half2B": ("ddda030205cfd7960498d9300f5c3deb", "18de8b37378e07e60dc602b6130eeeb2"),
    "half3A": ("32369aaeb73012881558f0f16d932b95", "46086440ddde128f169f23331998499d"),
    "half3B": ("0017c6f301f33db91008663985b6f826", "e5f9f0895fd0d49a8ac0b804ec891282"),
    "halfnatmanA": ("5fb4569a4f3be3897f490ee21b356256", "4fb63c72229ba07106a558127192cb9f"),
    "halfnatmanB": ("4ba839156cd6c7f33d8ada94e4331887", "f03be5732fb6bc7928ee53397b043613"),
    "reduced-0001": ("803a36f02b511db01532a604f5704ea8", None),
    "reduced-0002": ("af6addb779610611d460f0ade2931f2f", None),
    "reduced-0005": ("abdce3ff7f7933b0323c1074de7a734d", None),
    "reduced-0010": ("d3752c71b0facde0173876293ce632fd", None),
    "reduced-0025": ("df313d05c0256010b96870f5707f0417", None),
    "reduced-0050": ("34e5285b75e5448ff82bc6b0ca0c28f7", None),
    "reduced-0100": ("8376e82b043586424b8bebf4fd4a8af2", None),
    "reduced-0250": ("e83abe901d08926ef62956be8628dbd0", None),
    "reduced-0500": ("d32ff1c8817548f0edf5557b32ca5e0e", None),
    "reduced-0750": ("5bb58aecc081ec6c27ec68bbc755bb58", None),
    "reduced-1000": ("94fce01f9b4cb80bdb3fbf2a440c26e6", None),
}


def paper_subsets(
    train: Sequence[str], valid: Sequence[str], classes: int = IMAGENET_CLASSES
) -> Iterator[tuple[str, list[str], list[str] | None]]:
    """(name, training lines, validation lines) of the whole set, the ten halves and the eleven reduced sets.

    The natural and man-made halves exist only for ImageNet's 1000 classes.
    """
    yield WHOLE, list(train), list(valid)
    halves = [(f"half{split}", random_half_classes(int(split), classes)) for split in RANDOM_SPLITS]
    if classes == IMAGENET_CLASSES:
        halves.append((f"half{NATURAL_SPLIT}", natural_half_classes()))
    for name, pair in halves:
        for letter, chosen in zip("AB", pair, strict=True):
            yield f"{name}{letter}", subset_list(train, chosen), subset_list(valid, chosen)
    for count in REDUCED_SIZES[:-1]:  # the largest is the whole set
        yield f"reduced-{count:04d}", reduced_list(train, count), None


def list_text(lines: Sequence[str]) -> str:
    """The lines as the authors' files have them."""
    return "".join(f"{line}\n" for line in lines)


def list_md5(lines: Sequence[str]) -> str:
    """MD5 of the list file, to compare with ``LIST_MD5``."""
    return hashlib.md5(list_text(lines).encode()).hexdigest()


def compare_list(name: str, part: str, lines: Sequence[str]) -> tuple[str, bool]:
    """(how the list of a subset's part, train or valid, compares with the authors', whether it is equal)."""
    found, expected = list_md5(lines), LIST_MD5.get(name, (None, None))[part == "valid"]
    if found == expected:
        return "equals the authors' list", True
    return f"MD5 {found}, the authors' is {expected}", False


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
