import math

import pytest
import torch

from caffe_compat.errors import NetError
from caffe_compat.layers.base import Layer
from caffe_compat.layers.eltwise import Eltwise
from tests.layers.harness import check_layer, make_layer, noise, on_devices, run, tensor


def gradients(layer: Layer, *values: float, top_diff: float = 1.0) -> list[float]:
    bottoms = [tensor([value]) for value in values]
    (top,) = run(layer, *bottoms)
    return [g.item() for g in torch.autograd.grad(top, bottoms, torch.full_like(top, top_diff))]


@on_devices
@pytest.mark.parametrize(
    "fields",
    [
        "",
        "coeff: 1 coeff: -0.5 coeff: 2",
        "operation: PROD",
        "operation: PROD stable_prod_grad: false",
        "operation: MAX",
    ],
)
def test_layer(device: str, fields: str) -> None:
    shape = (2, 3)
    layer = make_layer(Eltwise, f"eltwise_param {{ {fields} }}", shape, shape, shape, device=device)
    check_layer(layer, *(noise(*shape, device=device, seed=seed) for seed in range(3)))


def test_max_gives_a_tie_to_the_second_but_not_to_the_third() -> None:
    layer = make_layer(Eltwise, "eltwise_param { operation: MAX }", (1,), (1,), (1,))
    assert gradients(layer, 4, 4, 4) == [0, 1, 0]
    assert gradients(layer, 4, 3, 4) == [1, 0, 0]
    assert gradients(layer, 4, 3, 5) == [0, 0, 1]


def test_max_drops_an_early_nan() -> None:
    layer = make_layer(Eltwise, "eltwise_param { operation: MAX }", (1,), (1,))
    assert run(layer, tensor([math.nan]), tensor([1.0]))[0].item() == 1
    assert math.isnan(run(layer, tensor([1.0]), tensor([math.nan]))[0].item())


def test_unstable_product_divides_by_zero() -> None:
    layer = make_layer(Eltwise, "eltwise_param { operation: PROD stable_prod_grad: false }", (1,), (1,))
    first, second = gradients(layer, 0, 3)
    assert math.isnan(first)
    assert second == 0


@pytest.mark.parametrize(
    ("fields", "top", "expected"),
    [
        # Worked through by hand from the order in which Caffe writes: bottom 0's memory is the top's.
        ("coeff: 2 coeff: 3 coeff: 5", 3 * 7 + 5 * 11, [2, 6, 10]),
        ("operation: PROD", 5 * 7 * 11, [(7 * 11) ** 2, 385 * 11 * 77**2, 385 * 7 * 77**2]),
        ("operation: PROD stable_prod_grad: false", 385, [1, 55, 35]),
        ("operation: MAX", 11, [0, 0, 0]),
    ],
)
def test_in_place(fields: str, top: float, expected: list[float]) -> None:
    with pytest.warns(UserWarning, match="overwrites bottom 0"):
        layer = make_layer(
            Eltwise,
            f'bottom: "a" bottom: "b" bottom: "c" top: "a" eltwise_param {{ {fields} }}',
            (1,), (1,), (1,),
        )  # fmt: skip
    assert run(layer, tensor([5.0]), tensor([7.0]), tensor([11.0]))[0].item() == top
    assert gradients(layer, 5, 7, 11) == expected


def test_in_place_max_without_gradient_of_bottom_0() -> None:
    with pytest.warns(UserWarning, match="overwrites bottom 0"):
        layer = make_layer(Eltwise, 'bottom: "a" bottom: "b" top: "a" eltwise_param { operation: MAX }', (1,), (1,))
    other = tensor([1.0])
    (top,) = run(layer, tensor([5.0]).detach(), other)
    assert torch.autograd.grad(top, other)[0].item() == 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("coeff: 1", "1 eltwise_param.coeff for 2 bottoms"),
        ("operation: PROD coeff: 1 coeff: 2", "only SUM takes coefficients"),
    ],
)
def test_refuses_coefficients(fields: str, message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(Eltwise, f"eltwise_param {{ {fields} }}", (2,), (2,))


def test_refuses_unlike_shapes() -> None:
    with pytest.raises(NetError, match=r"bottom 1 has shape \(3, 2\), bottom 0 \(2, 3\)"):
        make_layer(Eltwise, "", (2, 3), (3, 2))


def test_warns_of_coefficients_for_max() -> None:
    with pytest.warns(UserWarning, match="coeff has no effect"):
        make_layer(Eltwise, "eltwise_param { operation: MAX coeff: 1 coeff: 1 }", (2,), (2,))


@pytest.mark.filterwarnings("ignore:.*overwrites bottom 0")
def test_in_place_compiles() -> None:
    layer = make_layer(Eltwise, 'bottom: "a" bottom: "b" top: "a"', (2,), (2,))
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    assert compiled(noise(2), tensor([3.0, 4.0])).tolist() == [3, 4]
