import pytest

from caffe_compat.errors import NetError
from caffe_compat.layers.relu6 import ReLU6
from tests.layers.harness import check_layer, gradient, make_layer, noise, on_devices, run, tensor
from tests.layers.onnx_form import check_onnx, numbers


@on_devices
@pytest.mark.parametrize("slope", [0, 0.5])
def test_layer(device: str, slope: float) -> None:
    layer = make_layer(ReLU6, f"relu6_param {{ negative_slope: {slope} }}", (3, 4), device=device)
    check_layer(layer, (5 * noise(3, 4, device=device)).detach().requires_grad_())


def test_values_and_gradients_at_the_kinks() -> None:
    layer = make_layer(ReLU6, "relu6_param { negative_slope: 0.5 }", (6,))
    bottom = tensor([-2.0, 0.0, 3.0, 6.0, 7.0, float("nan")])
    top = run(layer, bottom)[0].tolist()
    assert top[:5] == [-1, 0, 3, 6, 6]
    assert top[5] != top[5]
    assert gradient(layer, bottom)[:5] == [0.5, 0.5, 1, 0, 0]
    now = layer.gradient_now(bottom, bottom, noise(6), bottom)
    assert now.tolist()[:5] == (noise(6) * tensor([0.5, 0.5, 1, 0, 0, 1])).tolist()[:5]


def test_a_negative_slope_below_zero_is_refused() -> None:
    with pytest.raises(NetError, match=r"relu6_param\.negative_slope is -1; expected at least 0"):
        make_layer(ReLU6, "relu6_param { negative_slope: -1 }", (2,))


@pytest.mark.parametrize("slope", [0, 0.5])
def test_onnx(slope: float) -> None:
    check_onnx(f'type: "ReLU6" relu6_param {{ negative_slope: {slope} }}', 5 * numbers(3, 4))
