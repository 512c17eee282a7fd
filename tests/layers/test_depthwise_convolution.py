import pytest
import torch

from caffe_compat import Net
from caffe_compat.layers.depthwise_convolution import DepthwiseConvolution
from caffe_compat.net.chains import ConvChain, find_chains
from caffe_compat.proto import parse_net
from tests.layers.harness import check_layer, make_layer, noise, on_devices, randomize, run
from tests.layers.onnx_form import check_onnx, numbers

FIELDS = "convolution_param { num_output: 3 group: 3 kernel_size: 3 stride: 2 pad: 1 }"


@on_devices
def test_each_channel_has_its_filter(device: str) -> None:
    layer = randomize(make_layer(DepthwiseConvolution, FIELDS, (2, 3, 5, 4), device=device))
    bottom = noise(2, 3, 5, 4, device=device)
    check_layer(layer, bottom)
    (top,) = run(layer, bottom)
    padded = torch.nn.functional.pad(bottom, (1, 1, 1, 1))
    for c in range(3):
        for y in range(3):
            for x in range(2):
                window = padded[:, c, 2 * y : 2 * y + 3, 2 * x : 2 * x + 3]
                expected = (window * layer.blob(0)[c, 0]).sum((1, 2)) + layer.blob(1)[c]
                torch.testing.assert_close(top[:, c, y, x], expected)


def test_group_is_the_file_s() -> None:
    layer = make_layer(
        DepthwiseConvolution, "convolution_param { num_output: 6 group: 2 kernel_size: 1 }", (1, 4, 2, 2)
    )
    assert layer.blob_shapes[0] == (6, 2, 1, 1)


def test_onnx() -> None:
    check_onnx(f'type: "DepthwiseConvolution" {FIELDS}', numbers(2, 3, 5, 4))


@pytest.mark.parametrize("layer_type", ["DepthwiseConvolution", "ConvolutionDepthwise"])
def test_fast_mode_takes_it_as_a_convolution(layer_type: str) -> None:
    text = 'layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 dim: 5 dim: 5 } } }'
    fields = "convolution_param { num_output: 3 group: 3 kernel_size: 3 weight_filler { type: 'xavier' } }"
    text += f'layer {{ name: "c" type: "{layer_type}" bottom: "x" top: "c" {fields} }}'
    text += 'layer { name: "r" type: "ReLU" bottom: "c" top: "c" }'
    net, fast = (Net(parse_net(text), phase="TEST", fast=fast) for fast in (False, True))
    fast.load_state_dict(net.state_dict())
    (chain,) = [unit for unit in find_chains(fast.steps) if isinstance(unit, ConvChain)]
    assert chain.relu
    x = noise(2, 3, 5, 5).float().detach()
    torch.testing.assert_close(fast(x=x)["c"], net(x=x)["c"])
