import math

import pytest

from caffe_compat.layers.swish import Swish
from tests.layers.harness import check_layer, make_layer, noise, on_devices, run, tensor


@on_devices
@pytest.mark.parametrize("beta", [1.0, -0.5])
def test_layer(device: str, beta: float) -> None:
    layer = make_layer(Swish, f"swish_param {{ beta: {beta} }}", (3, 4), device=device)
    check_layer(layer, noise(3, 4, device=device))


def test_value() -> None:
    layer = make_layer(Swish, "swish_param { beta: 2 }", (1,))
    assert run(layer, tensor([1.5]))[0].item() == pytest.approx(1.5 / (1 + math.exp(-3)))
