import pytest

from caffe_compat.layers.hard_swish import HardSwish
from tests.layers.harness import check_layer, gradient, make_layer, noise, on_devices, run, tensor
from tests.layers.onnx_form import check_onnx, numbers


@on_devices
def test_layer(device: str) -> None:
    layer = make_layer(HardSwish, "", (3, 4), device=device)
    check_layer(layer, (3 * noise(3, 4, device=device)).detach().requires_grad_())


def test_values() -> None:
    layer = make_layer(HardSwish, "", (4,))
    bottom = tensor([-4.0, -1.0, 2.0, 5.0])
    assert run(layer, bottom)[0].tolist() == pytest.approx([0, -1 / 3, 5 / 3, 5])
    assert gradient(layer, bottom) == pytest.approx([0, 1 / 6, 7 / 6, 1])


def test_onnx() -> None:
    check_onnx('type: "HardSwish"', 3 * numbers(3, 4))
