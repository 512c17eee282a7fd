import pytest
import torch

from caffe_compat import random
from caffe_compat.errors import NetError
from caffe_compat.layers.selu_dropout import SeLuDropout
from tests.layers.harness import check_layer, make_layer, noise, on_devices
from tests.layers.onnx_form import check_onnx, numbers


@on_devices
def test_identity_in_test(device: str) -> None:
    layer = make_layer(SeLuDropout, "", (3, 4), device=device)
    bottom = noise(3, 4, device=device)
    check_layer(layer, bottom)
    assert layer.is_identity()
    assert torch.equal(layer(bottom), bottom)


def test_values_and_gradient_with_caffes_mask() -> None:
    fields = "selu_dropout_param { dropout_ratio: 0.25 alpha: -2 }"
    layer = make_layer(SeLuDropout, fields, (50, 40), phase="TRAIN")
    bottom = noise(50, 40)
    with random.scope():
        random.set_seed(3)
        top = layer(bottom)
    kept = torch.from_numpy(random.CaffeGenerator(3).bernoulli((50, 40), 0.75)).double()
    scale = (0.75 * (1 + 4 * 0.25)) ** -0.5
    torch.testing.assert_close(top, scale * torch.where(kept == 1, bottom, -2) + scale * 0.25 * 2)
    (slope,) = torch.autograd.grad(top.sum(), bottom)
    torch.testing.assert_close(slope, scale * kept)


@on_devices
def test_keeps_mean_and_variance_of_selu(device: str) -> None:
    """At the default alpha, the least that SeLu gives; 250,000 draws, five standard errors."""
    layer = make_layer(SeLuDropout, "", (500, 500), phase="TRAIN", device=device)
    top = layer(noise(500, 500, device=device))
    assert top.mean().item() == pytest.approx(0, abs=0.01)
    assert top.var().item() == pytest.approx(1, abs=0.02)
    assert (top - layer.scale * layer.alpha - layer.shift).abs().lt(1e-12).double().mean().item() == pytest.approx(
        0.1, abs=0.003
    )


@pytest.mark.parametrize("ratio", [0, 1])
def test_refusal(ratio: int) -> None:
    with pytest.raises(NetError, match=f"dropout_ratio is {ratio}; expected a number between 0 and 1"):
        make_layer(SeLuDropout, f"selu_dropout_param {{ dropout_ratio: {ratio} }}", (2,))


def test_onnx() -> None:
    check_onnx('type: "SeLuDropout"', numbers(3, 4))
