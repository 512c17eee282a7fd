import math

import pytest

from caffe_compat.layers.tanh import TanH
from tests.layers.harness import check_layer, make_layer, noise, on_devices, run, tensor


@on_devices
@pytest.mark.parametrize("engine", ["DEFAULT", "CAFFE", "CUDNN"])
def test_layer(device: str, engine: str) -> None:
    layer = make_layer(TanH, f"tanh_param {{ engine: {engine} }}", (3, 4), device=device)
    check_layer(layer, noise(3, 4, device=device))


def test_values() -> None:
    top = run(make_layer(TanH, "", (2,)), tensor([0.5, -90.0]))[0]
    assert top.tolist() == pytest.approx([math.tanh(0.5), -1])
