"""Cases that the CPU operator, the CUDA operator and the host-run CUDA kernel of space_to_depth are all tested on."""

from dataclasses import dataclass


@dataclass(frozen=True)
class SpaceToDepthCase:
    input: tuple[int, int, int, int]  # (N, C, H, W)
    block: int
    out_size: tuple[int, int]
    padding: tuple[int, int] = (0, 0)


SPACE_TO_DEPTH_CASES = [
    SpaceToDepthCase((2, 3, 11, 11), 4, (3, 3)),  # the last blocks overhang
    SpaceToDepthCase((2, 3, 9, 13), 4, (4, 5), (2, 3)),  # padding on every side
    SpaceToDepthCase((1, 1, 5, 6), 2, (2, 2), (0, 1)),  # the last rows and columns are left out
    SpaceToDepthCase((3, 5, 4, 7), 1, (4, 7)),  # no blocks: channels are added only
    SpaceToDepthCase((2, 8, 6, 5), 3, (3, 2), (1, 0)),
    SpaceToDepthCase((1, 2, 3, 3), 2, (5, 4), (3, 2)),  # blocks that touch the input nowhere
    SpaceToDepthCase((1, 3, 5, 260), 4, (1, 65)),  # a row of more than one piece, and more columns than threads
    SpaceToDepthCase((1, 64, 4, 9), 4, (1, 3)),  # the most channels
    SpaceToDepthCase((0, 3, 8, 8), 4, (2, 2)),
]
