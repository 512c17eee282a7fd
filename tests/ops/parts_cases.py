"""Cases that the CPU operators, the CUDA operators and the host-run CUDA kernels on channels in parts are tested on."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PartsCase:
    whole: tuple[int, int, int, int]  # (N, C, H, W) of all parts together
    parts: int = 1
    groups: int = 1


PARTS_CASES = [
    PartsCase((2, 32, 5, 7), 1, 2),  # whole vectors
    PartsCase((2, 32, 5, 7), 2, 1),
    PartsCase((1, 96, 3, 3), 2, 2),
    PartsCase((1, 96, 3, 2), 3, 4),
    PartsCase((2, 24, 3, 3), 2, 2),  # 12 channels in a part: vectors of 4, not of 8
    PartsCase((3, 6, 4, 5), 2, 3),  # one channel at a time
    PartsCase((1, 5, 9, 9), 1, 1),
    PartsCase((1, 3, 1, 1), 3, 1),
    PartsCase((1, 600, 3, 5), 2, 2),  # more than one block of channels
    PartsCase((1, 70, 2, 9), 2, 1),  # the same, one channel at a time
    PartsCase((4, 8, 40, 41), 1, 2),  # more than one block of pixels
    PartsCase((0, 8, 3, 3), 2, 4),  # no images
]
