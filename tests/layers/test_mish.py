import math

import pytest

from caffe_compat.layers.mish import Mish
from tests.layers.harness import check_layer, make_layer, noise, on_devices, run, tensor
from tests.layers.onnx_form import check_onnx, numbers


@on_devices
def test_layer(device: str) -> None:
    check_layer(make_layer(Mish, "", (3, 4), device=device), noise(3, 4, device=device))


def test_values() -> None:
    layer = make_layer(Mish, "", (4,))
    bottom = [-30.0, -1.0, 2.0, 50.0]
    expected = [x * math.tanh(math.log1p(math.exp(x))) for x in bottom]
    assert run(layer, tensor(bottom))[0].tolist() == pytest.approx(expected, rel=1e-12)


def test_onnx() -> None:
    check_onnx('type: "Mish"', 5 * numbers(3, 4))
