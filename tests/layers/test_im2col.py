import pytest
import torch
from torch.nn import functional

from caffe_compat.errors import NetError
from caffe_compat.layers.im2col import Im2col
from tests.layers.harness import check_layer, make_layer, noise, on_devices, run


@on_devices
@pytest.mark.parametrize(
    ("fields", "bottom", "top"),
    [
        ("kernel_size: 3", (2, 2, 5, 4), (2, 18, 3, 2)),
        ("kernel_h: 2 kernel_w: 3 stride: 2 pad_h: 0 pad_w: 1", (1, 2, 5, 4), (1, 12, 2, 2)),
        ("kernel_size: 2 dilation: 2 pad: 1", (1, 1, 4, 3), (1, 4, 4, 3)),
        ("kernel_size: 2 stride: 2", (2, 3, 6), (2, 6, 3)),
        ("kernel_size: 2", (1, 1, 3, 2, 2), (1, 8, 2, 1, 1)),
        ("kernel_size: 2 axis: 2", (1, 2, 2, 3, 3), (1, 2, 8, 2, 2)),
    ],
)
def test_layer(device: str, fields: str, bottom: tuple[int, ...], top: tuple[int, ...]) -> None:
    layer = make_layer(Im2col, f"convolution_param {{ {fields} }}", bottom, device=device)
    assert layer.infer_shapes(bottom) == [top]
    check_layer(layer, noise(*bottom, device=device))


def test_values_are_pytorchs_unfold() -> None:
    layer = make_layer(Im2col, "convolution_param { kernel_size: 3 stride: 2 pad: 1 dilation: 2 }", (2, 3, 8, 9))
    bottom = noise(2, 3, 8, 9)
    (top,) = run(layer, bottom)
    torch.testing.assert_close(top.flatten(2), functional.unfold(bottom, 3, dilation=2, padding=1, stride=2))


@pytest.mark.parametrize(
    ("fields", "bottom", "message"),
    [
        ("kernel_size: 3", (2, 3), "no spatial axis"),
        ("kernel_size: 5", (1, 1, 4, 4), "does not fit"),
        ("kernel_size: 0", (1, 1, 4, 4), "kernel_size is 0"),
    ],
)
def test_refusals(fields: str, bottom: tuple[int, ...], message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(Im2col, f"convolution_param {{ {fields} }}", bottom)
