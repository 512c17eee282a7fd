import math

import pytest

from caffe_compat.errors import NetError
from caffe_compat.layers.log import Log
from tests.layers.harness import check_layer, gradient, make_layer, noise, on_devices, run, tensor


@on_devices
@pytest.mark.parametrize("fields", ["", "base: 2 scale: 3 shift: 0.5", "base: 0.5"])
def test_layer(device: str, fields: str) -> None:
    bottom = noise(3, 4, device=device).detach().abs().add(0.1).requires_grad_()
    check_layer(make_layer(Log, f"log_param {{ {fields} }}", (3, 4), device=device), bottom)


def test_value() -> None:
    layer = make_layer(Log, "log_param { base: 10 scale: 3 shift: 1 }", (1,))
    assert run(layer, tensor([33.0]))[0].item() == pytest.approx(2)


def test_in_place_the_derivative_at_the_top_is_squared() -> None:
    layer = make_layer(Log, 'bottom: "x" top: "x" log_param { base: 2 }', (1,))
    assert gradient(layer, tensor([8.0]), [100.0]) == pytest.approx([(1 / (3 * math.log(2))) ** 2])


@pytest.mark.parametrize("base", ["0", "-2", "1", "inf", "nan"])
def test_refuses_base(base: str) -> None:
    with pytest.raises(NetError, match=r"log_param\.base"):
        make_layer(Log, f"log_param {{ base: {base} }}", (1,))
