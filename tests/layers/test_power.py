import math

import pytest
import torch

from caffe_compat.layers.power import Power
from tests.layers.harness import check_layer, gradient, make_layer, noise, on_devices, run, tensor


@on_devices
@pytest.mark.parametrize(
    "fields",
    [
        "",
        "scale: 0.5 shift: 2",
        "power: 2",
        "power: 2 scale: 3 shift: 1",
        "power: 3 scale: -2",
        "power: 0.5 scale: 0.1 shift: 4",
        "power: -1 shift: 6",
        "power: 0 shift: 3",
        "power: 2 scale: 0 shift: 3",
    ],
)
def test_layer(device: str, fields: str) -> None:
    check_layer(make_layer(Power, f"power_param {{ {fields} }}", (3, 4), device=device), noise(3, 4, device=device))


@pytest.mark.parametrize(
    ("fields", "value"),
    [
        ("power: 0 scale: 2", 1),
        ("power: 2 scale: 0 shift: 3", 9),
        ("power: -1 scale: 0", math.inf),
        ("power: 0.5 scale: 0 shift: -1", math.nan),
    ],
)
def test_constants_ignore_the_bottom(fields: str, value: float) -> None:
    layer = make_layer(Power, f"power_param {{ {fields} }}", (1,))
    bottom = tensor([math.nan])
    assert run(layer, bottom)[0].item() == pytest.approx(value, nan_ok=True)
    assert gradient(layer, bottom) == [0]


@pytest.mark.parametrize("fields", ["power: 3", "power: 3 scale: 2", "power: 4 scale: 1 shift: -1"])
def test_gradient_is_nan_where_the_base_is_zero(fields: str) -> None:
    layer = make_layer(Power, f"power_param {{ {fields} }}", (1,))
    assert math.isnan(gradient(layer, tensor([1.0 if "shift" in fields else 0.0]))[0])


def test_square_has_a_gradient_at_zero() -> None:
    assert gradient(make_layer(Power, "power_param { power: 2 }", (1,)), tensor([0.0])) == [0]


@pytest.mark.parametrize(
    ("fields", "bottom", "expected"),
    [
        # In place: the derivative, taken at the top, is multiplied by itself instead of top_diff.
        ("scale: 0.5 shift: 1", 3.0, 0.25),
        ("power: 2", 3.0, (2 * 9) ** 2),
        ("power: 3", 2.0, 3**2),
        ("power: 3 shift: 1", 1.0, (3 * 8 / 9) ** 2),
        ("power: 0", 3.0, 0),
    ],
)
def test_in_place(fields: str, bottom: float, expected: float) -> None:
    layer = make_layer(Power, f'bottom: "x" top: "x" power_param {{ {fields} }}', (1,))
    assert gradient(layer, tensor([bottom]), [100.0]) == pytest.approx([expected])


def test_in_place_compiles() -> None:
    layer = make_layer(Power, 'bottom: "x" top: "x" power_param { power: 2 }', (1,))
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    assert gradient(compiled, tensor([3.0])) == [18**2]
