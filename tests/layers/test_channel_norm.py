import pytest
import torch

from caffe_compat.errors import NetError
from caffe_compat.layers.channel_norm import ChannelNorm
from tests.layers.harness import check_layer, gradient, make_layer, noise, on_devices, run, tensor
from tests.layers.onnx_form import check_onnx, numbers


@on_devices
def test_layer(device: str) -> None:
    layer = make_layer(ChannelNorm, "", (2, 3, 2, 2), device=device)
    bottom = noise(2, 3, 2, 2, device=device)
    check_layer(layer, bottom)
    torch.testing.assert_close(run(layer, bottom)[0], torch.linalg.vector_norm(bottom, dim=1, keepdim=True))


def test_a_vector_of_zeros_has_no_gradient() -> None:
    layer = make_layer(ChannelNorm, "", (1, 2, 1, 2))
    bottom = tensor([[[[0.0, 3.0]], [[0.0, 4.0]]]])
    assert run(layer, bottom)[0].flatten().tolist() == [0, 5]
    assert gradient(layer, bottom) == pytest.approx([0, 0.6, 0, 0.8])


def test_refusals() -> None:
    with pytest.raises(NetError, match="expected 4 axes"):
        make_layer(ChannelNorm, "", (2, 3))


def test_onnx() -> None:
    check_onnx('type: "ChannelNorm"', numbers(2, 3, 4, 5))
