import math

import pytest

from caffe_compat.layers.bnll import BNLL
from tests.layers.harness import check_layer, gradient, make_layer, noise, on_devices, run, tensor


@on_devices
def test_layer(device: str) -> None:
    check_layer(make_layer(BNLL, "", (3, 4), device=device), noise(3, 4, device=device))


def test_far_ends() -> None:
    layer = make_layer(BNLL, "", (3,))
    bottom = tensor([-30.0, 0.0, 1000.0])
    (top,) = run(layer, bottom)
    assert top.tolist() == pytest.approx([math.log1p(math.exp(-30)), math.log(2), 1000])
    assert gradient(layer, bottom) == pytest.approx([math.exp(-30), 0.5, 1])


def test_in_place_gradient_is_taken_at_the_top() -> None:
    with pytest.warns(UserWarning, match="gradient in place"):
        layer = make_layer(BNLL, 'bottom: "x" top: "x"', (1,), phase="TRAIN")
    top = math.log1p(math.exp(0.3))
    assert gradient(layer, tensor([0.3])) == pytest.approx([1 / (1 + math.exp(-top))])
