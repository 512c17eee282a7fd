import pytest
import torch
from torch.nn import functional

from caffe_compat.errors import NetError
from caffe_compat.layers.convolution_depthwise import ConvolutionDepthwise
from tests.layers.harness import check_layer, make_layer, noise, on_devices, randomize, run
from tests.layers.onnx_form import check_onnx, numbers


@on_devices
@pytest.mark.parametrize("counts", ["", "num_output: 3 group: 3", "num_output: 3"])
def test_layer(device: str, counts: str) -> None:
    fields = f"convolution_param {{ {counts} kernel_size: 3 stride: 2 pad: 1 }}"
    layer = randomize(make_layer(ConvolutionDepthwise, fields, (2, 3, 5, 4), device=device))
    bottom = noise(2, 3, 5, 4, device=device)
    check_layer(layer, bottom)
    alone = [
        functional.conv2d(bottom[:, c : c + 1], layer.blob(0)[c : c + 1], layer.blob(1)[c : c + 1], 2, 1)
        for c in range(3)
    ]
    torch.testing.assert_close(run(layer, bottom)[0], torch.cat(alone, 1))


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ("group: 1", "convolution_param.group is 1; each of the bottom's 3 channels has one filter, so expected 3"),
        ("num_output: 6", "convolution_param.num_output is 6; each of the bottom's 3 channels"),
    ],
)
def test_refusals(counts: str, message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(ConvolutionDepthwise, f"convolution_param {{ {counts} kernel_size: 1 }}", (1, 3, 2, 2))


def test_onnx() -> None:
    check_onnx('type: "ConvolutionDepthwise" convolution_param { kernel_size: 3 }', numbers(2, 3, 5, 4))
