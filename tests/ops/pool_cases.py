"""Max pooling cases that the CPU operators, the CUDA operators and the host-run CUDA kernels are all tested on."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PoolCase:
    input: tuple[int, int, int, int]  # (N, C, H, W)
    out_size: tuple[int, int]
    kernel: tuple[int, int] = (3, 3)
    stride: tuple[int, int] = (2, 2)
    padding: tuple[int, int] = (0, 0)
    relu: bool = False
    local_size: int = 5  # of the LRN behind it
    beta: float = 0.75

    def window(self) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int], tuple[int, int]]:
        return self.kernel, self.stride, self.padding, self.out_size


POOL_CASES = [
    PoolCase((2, 8, 11, 11), (5, 5)),  # windows that tile the input
    PoolCase((2, 8, 12, 10), (6, 5), relu=True),  # Caffe rounds up: the last windows overhang
    PoolCase((1, 1, 1, 1), (1, 1), relu=True),
    PoolCase((1, 1, 5, 3), (2, 1)),
    PoolCase((2, 3, 7, 6), (4, 4), padding=(1, 2)),
    PoolCase((2, 3, 7, 6), (4, 4), padding=(1, 2), relu=True, local_size=9),  # fewer channels than the LRN's window
    PoolCase((1, 5, 9, 8), (9, 8), stride=(1, 1), padding=(1, 1), relu=True),
    PoolCase((1, 5, 9, 8), (3, 2), kernel=(2, 2), stride=(3, 5)),  # pixels under no window
    PoolCase((1, 6, 6, 7), (6, 7), kernel=(1, 1), stride=(1, 1), relu=True, local_size=1),
    PoolCase((2, 4, 6, 7), (1, 1), kernel=(6, 7), stride=(1, 1), relu=True),  # global
    PoolCase((1, 2, 17, 19), (2, 2), kernel=(15, 17), stride=(2, 2), beta=0.6),  # 255 taps
    PoolCase((0, 4, 7, 7), (3, 3), relu=True),  # no images
    PoolCase((3, 37, 9, 9), (4, 4), relu=True),  # channels that are no multiple of a vector
    PoolCase((2, 96, 13, 13), (6, 6), relu=True, beta=1.0),  # CaffeNet's pool1 in small
    PoolCase((1, 16, 27, 27), (13, 13), relu=True, local_size=3, beta=0.5),
    PoolCase((1, 3, 4, 33), (2, 11), kernel=(2, 4), stride=(2, 3), padding=(0, 1)),
]
