"""Convolution cases that the CPU operator, the CUDA operator and the host-run CUDA kernels are all tested on."""

from dataclasses import dataclass

from caffe_compat.ops import ConvWindow


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

    def window(self) -> ConvWindow:
        return ConvWindow(self.stride, self.padding, self.dilation, self.groups)


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

# Channels of a group, in and out, that fill 16-byte accesses of a 16-bit type: what the channels_last kernels take.
NHWC_CASES = [
    ConvCase((1, 8, 5, 5), 8, (1, 1), stride=(2, 2)),  # one step deep
    ConvCase((2, 16, 7, 6), 32, (3, 3), padding=(1, 1), groups=2, bias=False),
    ConvCase((2, 16, 9, 8), 16, (3, 2), (2, 1), (1, 2), (1, 2), 2),
    ConvCase((1, 8, 7, 9), 8, (2, 3), stride=(2, 3)),
    ConvCase((1, 8, 6, 6), 8, (3, 3), padding=(4, 4)),  # taps that never touch the image
    ConvCase((0, 8, 5, 5), 8, (3, 3)),  # no images
    ConvCase((3, 40, 8, 7), 72, (3, 3), padding=(1, 1)),  # the wide tile, several of them, with ragged ends
    ConvCase((1, 8, 6, 5), 136, (2, 2)),  # three narrow tiles
    ConvCase((1, 64, 4, 5), 128, (2, 2)),  # the largest tiles of all products
    ConvCase((1, 8, 9, 8), 8, (3, 3), (2, 4), (1, 0), (2, 2)),  # some pixels of the input are under no tap
    ConvCase((1, 8, 17, 3), 8, (16, 2), padding=(8, 1)),  # the tallest window
    ConvCase((4, 8, 13, 13), 16, (3, 3), padding=(1, 1), groups=1),  # the weight gradient in parts
]
# The same for float32.
NHWC_FLOAT_CASES = [
    ConvCase((2, 12, 5, 7), 12, (3, 3), padding=(1, 1), groups=3),
    ConvCase((1, 4, 6, 5), 12, (3, 2), (2, 1), (1, 0)),
    ConvCase((1, 4, 8, 7), 12, (6, 6), padding=(1, 1)),  # more taps than a tile of the weight gradient may have
]
