"""Window sizes: what the fields say, and how many windows fit, counted one by one."""

from itertools import product

import pytest
from google.protobuf import text_format

from caffe_compat.errors import NetError
from caffe_compat.layers.base import Layer, Shape
from caffe_compat.layers.shared.geometry import (
    KernelWindow,
    conv_sizes,
    deconv_sizes,
    end_pads,
    overhang,
    pooled_size,
    read_conv_window,
    window_details,
)
from caffe_compat.proto import caffe_pb2

LAYER = Layer(caffe_pb2.LayerParameter(name="it"))
#: every small case of one axis: size, kernel, stride, pad, dilation
AXES = list(product((1, 2, 5, 8), (1, 2, 3), (1, 2, 3), (0, 1, 2), (1, 2)))


def convolution(text: str) -> caffe_pb2.ConvolutionParameter:
    return text_format.Parse(text, caffe_pb2.ConvolutionParameter())


@pytest.mark.parametrize(
    ("text", "axes", "window"),
    [
        ("kernel_size: 3", 2, ((3, 3), (1, 1), (0, 0), (1, 1))),
        ("kernel_size: 3 stride: 2 pad: 1 dilation: 4", 1, ((3,), (2,), (1,), (4,))),
        (
            "kernel_size: 3 kernel_size: 5 stride: 1 stride: 2 pad: 0 pad: 4 dilation: 1 dilation: 2",
            2,
            ((3, 5), (1, 2), (0, 4), (1, 2)),
        ),
        (
            "kernel_h: 3 kernel_w: 5 stride_h: 2 stride_w: 3 pad_h: 1 pad_w: 2",
            2,
            ((3, 5), (2, 3), (1, 2), (1, 1)),
        ),
        ("kernel_size: 2", 3, ((2,) * 3, (1,) * 3, (0,) * 3, (1,) * 3)),
        ("kernel_size: 2", 0, ((), (), (), ())),
    ],
)
def test_read_conv_window(text: str, axes: int, window: tuple[Shape, ...]) -> None:
    assert read_conv_window(LAYER, convolution(text), axes) == KernelWindow(*window)


@pytest.mark.parametrize(
    ("text", "axes", "message"),
    [
        ("", 2, "kernel_size is given 0 times; expected once, or once for each of 2 spatial axes"),
        ("kernel_size: 1 kernel_size: 1", 3, "kernel_size is given 2 times"),
        ("kernel_size: 0", 2, "kernel_size is 0; expected at least 1"),
        ("kernel_size: 1 dilation: 0", 2, "dilation is 0; expected at least 1"),
        ("kernel_h: 1 kernel_w: 1", 3, "kernel_h and kernel_w are for 2 spatial axes, the bottom has 3"),
        ("kernel_size: 1 kernel_h: 1 kernel_w: 1", 2, "either kernel_size or kernel_h and kernel_w, not both"),
        ("kernel_h: 1", 2, "kernel is 0; expected at least 1"),
    ],
)
def test_read_conv_window_refuses(text: str, axes: int, message: str) -> None:
    with pytest.raises(NetError, match=message):
        read_conv_window(LAYER, convolution(text), axes)


def test_extent() -> None:
    assert KernelWindow((3, 1, 2), (1,) * 3, (0,) * 3, (1, 5, 4)).extent() == (3, 1, 5)


def windows_that_fit(size: int, extent: int, stride: int, pad: int) -> int:
    """Starts at -pad, stride apart, as long as the window ends within the padded bottom."""
    return len([start for start in range(-pad, size + pad, stride) if start + extent <= size + pad])


@pytest.mark.parametrize(("size", "kernel", "stride", "pad", "dilation"), AXES)
def test_conv_sizes_counts_windows(size: int, kernel: int, stride: int, pad: int, dilation: int) -> None:
    window = KernelWindow((kernel,), (stride,), (pad,), (dilation,))
    (extent,) = window.extent()
    overhanging = extent - size - 2 * pad
    fits = windows_that_fit(size, extent, stride, pad)
    if overhanging >= stride:
        with pytest.raises(NetError, match="does not fit a bottom of"):
            conv_sizes(LAYER, (size,), window)
        return
    (found,) = conv_sizes(LAYER, (size,), window)
    assert found == max(fits, 1), "one window may overhang by less than a stride"
    assert overhang((size,), window) == (max(0, overhanging),)
    # With this pad at the end the windows fit, also for a reader that does not let one overhang.
    (end,) = end_pads((size,), (found,), window)
    assert end >= pad
    assert len([s for s in range(-pad, size + end, stride) if s + extent <= size + end]) >= found


@pytest.mark.parametrize(("size", "kernel", "stride", "pad", "dilation"), AXES)
def test_deconv_sizes_reach_from_first_to_last_tap(
    size: int, kernel: int, stride: int, pad: int, dilation: int
) -> None:
    window = KernelWindow((kernel,), (stride,), (pad,), (dilation,))
    taps = [i * stride + k * dilation for i in range(size) for k in range(kernel)]
    assert deconv_sizes((size,), window) == (max(taps) + 1 - 2 * pad,)


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "pad", "windows"),
    [
        (7, 3, 2, 0, 3),  # all inside: starts 0, 2, 4
        (8, 3, 2, 0, 4),  # the one from 6 on is cut off
        (5, 1, 2, 0, 3),
        (6, 1, 2, 0, 4),  # Caffe's rounding: one from 6 on, wholly outside
        (4, 2, 2, 1, 3),  # starts -1, 1, 3
        (5, 2, 2, 1, 3),  # a fourth would start at 5, in the padding
        (3, 3, 1, 2, 5),
    ],
)
def test_pooled_size(size: int, kernel: int, stride: int, pad: int, windows: int) -> None:
    assert pooled_size(size, kernel, stride, pad, padded=pad > 0) == windows


def test_pooled_size_rounding() -> None:
    assert pooled_size(8, 3, 2, 0, padded=False, ceil_mode=False) == 3
    # Padding on the other axis makes Caffe drop the window that starts outside.
    assert pooled_size(6, 1, 2, 0, padded=True) == 3


@pytest.mark.parametrize(
    ("text", "details"),
    [
        ("", []),
        ("kernel_size: 3", ["kernel 3"]),
        ("kernel_size: 3 stride: 2 pad: 1", ["kernel 3, stride 2, pad 1"]),
        ("kernel_size: 3 kernel_size: 5", ["kernel 3x5"]),
        ("kernel_h: 2 kernel_w: 4 stride: 2", ["kernel 2x4, stride 2"]),
    ],
)
def test_window_details(text: str, details: list[str]) -> None:
    assert window_details(convolution(text)) == details


def test_window_details_of_pooling() -> None:
    param = text_format.Parse("kernel_size: 3 stride_h: 2 stride_w: 1", caffe_pb2.PoolingParameter())
    assert window_details(param) == ["kernel 3, stride 2x1"]
    assert window_details(caffe_pb2.PoolingParameter()) == []
