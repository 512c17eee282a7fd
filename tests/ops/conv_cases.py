"""Convolution cases that the CPU operator, the CUDA operator and the host-run CUDA kernels are all tested on."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ConvCase:
    input: tuple[int, int, int, int]  # (N, C, H, W)
    outputs: int
    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    bias: bool = True

    @property
    def weight(self) -> tuple[int, int, int, int]:
        return self.outputs, self.input[1] // self.groups, *self.kernel

    def window(self) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int], int]:
        return self.stride, self.padding, self.dilation, self.groups


CONV_CASES = [
    ConvCase((2, 3, 7, 6), 4, (3, 3)),
    ConvCase((1, 1, 1, 1), 1, (1, 1)),
    ConvCase((2, 4, 5, 5), 6, (1, 1), bias=False),  # pointwise: no im2col
    ConvCase((1, 4, 5, 5), 3, (1, 1), stride=(2, 2)),
    ConvCase((1, 4, 5, 5), 3, (1, 1), padding=(1, 1)),
    ConvCase((2, 6, 9, 8), 4, (3, 2), (2, 1), (1, 2), (1, 2), 2),
    ConvCase((2, 6, 5, 7), 6, (3, 3), padding=(1, 1), groups=6),  # depthwise
    ConvCase((1, 6, 5, 7), 12, (3, 3), padding=(1, 1), groups=3, bias=False),
    ConvCase((1, 3, 23, 23), 8, (11, 11), stride=(4, 4)),  # conv1 of CaffeNet in small
    ConvCase((1, 2, 6, 6), 3, (3, 3), padding=(4, 4)),  # taps that never touch the image
    ConvCase((1, 2, 9, 9), 3, (2, 2), stride=(5, 5)),  # pixels that no window reads
    ConvCase((1, 2, 5, 5), 2, (5, 5)),  # one output pixel
    ConvCase((0, 2, 5, 5), 4, (3, 3)),  # no images
    ConvCase((3, 34, 6, 5), 66, (3, 3), padding=(1, 1)),  # several tiles with ragged ends
    ConvCase((2, 140, 4, 4), 72, (1, 3), padding=(0, 1), groups=2),
    ConvCase((1, 2, 19, 17), 3, (3, 3), dilation=(4, 3), padding=(2, 0)),
]
