"""How values of flags are read: what cannot be meant is refused in one line, with what is expected."""

import argparse
import math
import re
from collections.abc import Callable

#: of the whole numbers in Caffe's messages
INT32 = 2**31
#: {what --dynamic calls it: the axis of an input}; height and width are those of inputs with 4 axes
AXES = {"batch": 0, "height": 2, "width": 3}


def whole(least: int, most: int = INT32 - 1) -> Callable[[str], int]:
    """For ``type=``: a whole number from ``least`` to ``most``."""

    def read(text: str) -> int:
        if not re.fullmatch(r"[+-]?[0-9]{1,20}", text) or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f'"{text}"; expected a whole number from {least} to {most}')
        return int(text)

    return read


def int32(text: str) -> int:
    """For ``type=``: any whole number that Caffe's messages hold."""
    return whole(-INT32)(text)


def tolerance(text: str) -> float:
    """For ``type=``: a number that is 0 or more."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f'"{text}"; expected a number of at least 0')
    return value


def phase_or_none(text: str) -> str:
    """For ``type=``: TRAIN or TEST, or nothing, as in Caffe."""
    if text not in ("TRAIN", "TEST", ""):
        raise argparse.ArgumentTypeError(f'"{text}"; expected TRAIN or TEST')
    return text
