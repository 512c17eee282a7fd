import math

import pytest

from caffe_compat.errors import NetError
from caffe_compat.layers.exp import Exp
from tests.layers.harness import check_layer, make_layer, noise, on_devices, run, tensor


@on_devices
@pytest.mark.parametrize("fields", ["", "base: 2 scale: 0.5 shift: -1", "base: 1"])
def test_layer(device: str, fields: str) -> None:
    check_layer(make_layer(Exp, f"exp_param {{ {fields} }}", (3, 4), device=device), noise(3, 4, device=device))


@pytest.mark.parametrize(("base", "value"), [(2, 2**2.0), (-1, math.exp(2)), (1, 1)])
def test_values(base: float, value: float) -> None:
    layer = make_layer(Exp, f"exp_param {{ base: {base} scale: 3 shift: 0.5 }}", (1,))
    assert run(layer, tensor([0.5]))[0].item() == pytest.approx(value)


@pytest.mark.parametrize("base", ["0", "-2", "inf", "nan"])
def test_refuses_base(base: str) -> None:
    with pytest.raises(NetError, match=r"exp_param\.base"):
        make_layer(Exp, f"exp_param {{ base: {base} }}", (1,))
