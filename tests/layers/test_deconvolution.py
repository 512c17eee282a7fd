import pytest
import torch
from torch.nn import functional

from caffe_compat.errors import NetError
from caffe_compat.layers.deconvolution import Deconvolution
from tests.layers.harness import check_layer, make_layer, noise, on_devices, randomize, run


def make_deconvolution(fields: str, *bottoms: tuple[int, ...], text: str = "", device: str = "cpu") -> Deconvolution:
    return randomize(make_layer(Deconvolution, f"{text} convolution_param {{ {fields} }}", *bottoms, device=device))


@on_devices
@pytest.mark.parametrize(
    ("fields", "bottom", "top"),
    [
        ("num_output: 3 kernel_size: 3", (2, 2, 3, 2), (2, 3, 5, 4)),
        ("num_output: 2 kernel_size: 4 stride: 2 pad: 1 group: 2 bias_term: false", (1, 4, 2, 3), (1, 2, 4, 6)),
        ("num_output: 1 kernel_h: 2 kernel_w: 3 stride_h: 3 stride_w: 1 pad: 1", (1, 2, 2, 2), (1, 1, 3, 2)),
        ("num_output: 2 kernel_size: 2 dilation: 2 stride: 2", (1, 1, 2, 2), (1, 2, 5, 5)),
        ("num_output: 2 kernel_size: 3 stride: 2", (2, 1, 3), (2, 2, 7)),
        ("num_output: 2 kernel_size: 2", (1, 1, 2, 1, 2), (1, 2, 3, 2, 3)),
        (
            "num_output: 2 kernel_size: 2 kernel_size: 1 kernel_size: 1 kernel_size: 2 stride: 2",
            (1, 1, 2, 1, 1, 2),
            (1, 2, 4, 1, 1, 4),
        ),
        ("num_output: 2 kernel_size: 2 axis: 2", (1, 2, 1, 2, 2), (1, 2, 2, 3, 3)),
        ("num_output: 4 group: 2 kernel_size: 1", (3, 2), (3, 4)),
    ],
)
def test_layer(device: str, fields: str, bottom: tuple[int, ...], top: tuple[int, ...]) -> None:
    layer = make_deconvolution(fields, bottom, device=device)
    assert layer.infer_shapes(bottom) == [top]
    check_layer(layer, noise(*bottom, device=device))


def test_four_spatial_axes_are_as_three() -> None:
    fields = "num_output: 4 kernel_size: 3 stride: 2 pad: 1 group: 2"
    three, four = make_deconvolution(fields, (2, 2, 3, 3, 2)), make_deconvolution(fields, (2, 2, 3, 3, 2, 1))
    bottom = noise(2, 2, 3, 3, 2)
    with torch.no_grad():
        # A kernel that is zero off the middle of the last axis does nothing there.
        four.blob(0).zero_()[..., 1].copy_(three.blob(0))
        four.blob(1).copy_(three.blob(1))
    torch.testing.assert_close(run(four, bottom.unsqueeze(-1))[0].squeeze(-1), run(three, bottom)[0])


def test_every_bottom_has_its_top() -> None:
    layer = make_deconvolution("num_output: 2 kernel_size: 2", (1, 1, 2, 2), (1, 1, 2, 2), text='top: "a" top: "b"')
    bottoms = noise(1, 1, 2, 2), noise(1, 1, 2, 2, seed=1)
    for bottom, top in zip(bottoms, run(layer, *bottoms), strict=True):
        torch.testing.assert_close(top, functional.conv_transpose2d(bottom, layer.blob(0), layer.blob(1)))


def test_weights_have_the_bottoms_channels_first() -> None:
    layer = make_deconvolution("num_output: 6 kernel_size: 3 group: 2", (1, 4, 5, 5))
    assert layer.blob_shapes == [(4, 3, 3, 3), (6,)]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("kernel_size: 3", "num_output is missing or 0"),
        ("num_output: 3 kernel_size: 3 group: 2", "must divide"),
        ("num_output: 2 kernel_size: 3 pad: 3", "leaves nothing of a bottom"),
    ],
)
def test_refusals(fields: str, message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_deconvolution(fields, (1, 2, 2, 2))
