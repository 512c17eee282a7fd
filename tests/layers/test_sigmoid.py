import math

import pytest

from caffe_compat.layers.sigmoid import Sigmoid
from tests.layers.harness import check_layer, make_layer, noise, on_devices, run, tensor


@on_devices
@pytest.mark.parametrize("engine", ["DEFAULT", "CAFFE", "CUDNN"])
def test_layer(device: str, engine: str) -> None:
    layer = make_layer(Sigmoid, f"sigmoid_param {{ engine: {engine} }}", (3, 4), device=device)
    check_layer(layer, noise(3, 4, device=device))


def test_values() -> None:
    top = run(make_layer(Sigmoid, "", (3,)), tensor([-800.0, math.log(3), 800.0]))[0]
    assert top.tolist() == pytest.approx([0, 0.75, 1])
