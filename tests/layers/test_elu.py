import math

import pytest

from caffe_compat.layers.elu import ELU
from tests.layers.harness import check_layer, gradient, make_layer, noise, on_devices, run, tensor


@on_devices
@pytest.mark.parametrize("alpha", [1.0, 0.3])
def test_layer(device: str, alpha: float) -> None:
    check_layer(make_layer(ELU, f"elu_param {{ alpha: {alpha} }}", (3, 4), device=device), noise(3, 4, device=device))


def test_gradient_at_zero_is_alpha() -> None:
    assert gradient(make_layer(ELU, "elu_param { alpha: 0.5 }", (2,)), tensor([0.0, 1e-9])) == [0.5, 1]


def test_far_ends() -> None:
    top = run(make_layer(ELU, "", (2,)), tensor([-800.0, 800.0]))[0]
    assert top.tolist() == [-1, 800]


def test_in_place_the_sign_of_the_top_decides() -> None:
    layer = make_layer(ELU, 'bottom: "x" top: "x" elu_param { alpha: -1 }', (1,))
    # For x = -1 the top 1 - exp(-1) is positive, so that Caffe takes x for positive too.
    assert gradient(layer, tensor([-1.0])) == [1]
    assert gradient(make_layer(ELU, "elu_param { alpha: -1 }", (1,)), tensor([-1.0])) == pytest.approx([-math.exp(-1)])
