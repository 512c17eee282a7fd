"""Cases that the CPU, CUDA and host-run CUDA kernels of pooling between channels in parts are tested on."""

from dataclasses import dataclass

from tests.ops.pool_cases import PoolCase


@dataclass(frozen=True)
class PoolPartsCase:
    pool: PoolCase  # of all parts together
    parts: int = 1
    groups: int = 1


POOL_PARTS_CASES = [
    PoolPartsCase(PoolCase((2, 32, 11, 9), (5, 4), relu=True), 1, 2),  # whole vectors
    PoolPartsCase(PoolCase((2, 32, 12, 10), (6, 5), relu=True), 2, 1),  # the last windows overhang
    PoolPartsCase(PoolCase((1, 96, 7, 7), (3, 3)), 2, 2),
    PoolPartsCase(PoolCase((1, 96, 7, 6), (4, 4), padding=(1, 2), relu=True, beta=0.5), 3, 4),
    PoolPartsCase(PoolCase((2, 24, 9, 9), (4, 4), relu=True), 2, 2),  # vectors of 4, not of 8
    PoolPartsCase(PoolCase((1, 16, 5, 5), (2, 2), relu=True), 2, 2),  # one vector a part
    PoolPartsCase(PoolCase((2, 6, 7, 8), (3, 4), relu=True, beta=1.0), 2, 3),  # one channel at a time
    PoolPartsCase(PoolCase((1, 4, 9, 8), (9, 8), stride=(1, 1), padding=(1, 1)), 4, 2),  # overlapping everywhere
    PoolPartsCase(PoolCase((1, 16, 9, 8), (3, 2), kernel=(2, 2), stride=(3, 5), relu=True), 1, 1),  # pixels in none
    PoolPartsCase(PoolCase((2, 16, 6, 7), (1, 1), kernel=(6, 7), stride=(1, 1), relu=True), 1, 2),
    PoolPartsCase(PoolCase((1, 32, 40, 70), (20, 35), relu=True), 1, 2),  # several tiles in both directions
    PoolPartsCase(PoolCase((1, 600, 5, 5), (2, 2), relu=True), 2, 2),  # several blocks of channels
    PoolPartsCase(PoolCase((1, 132, 5, 4), (2, 2), relu=True), 1, 2),  # the same, one channel at a time in 16 bits
    PoolPartsCase(PoolCase((0, 16, 7, 7), (3, 3), relu=True), 2, 2),  # no images
]
