import pytest

from caffe_compat.errors import NetError
from caffe_compat.layers.reduction import Reduction
from tests.layers.harness import check_layer, gradient, make_layer, noise, on_devices, run, tensor

VALUES = [[1.0, -2.0, 3.0], [0.0, 4.0, -6.0]]


@on_devices
@pytest.mark.parametrize("operation", ["SUM", "ASUM", "SUMSQ", "MEAN"])
@pytest.mark.parametrize(("axis", "top"), [(0, ()), (1, (2,)), (-1, (2, 3))])
def test_layer(device: str, operation: str, axis: int, top: tuple[int, ...]) -> None:
    fields = f"reduction_param {{ operation: {operation} axis: {axis} coeff: 0.5 }}"
    layer = make_layer(Reduction, fields, (2, 3, 4), device=device)
    assert layer.infer_shapes((2, 3, 4)) == [top]
    check_layer(layer, noise(2, 3, 4, device=device))


@pytest.mark.parametrize(
    ("operation", "expected"), [("SUM", [4, -4]), ("ASUM", [12, 20]), ("SUMSQ", [28, 104]), ("MEAN", [4 / 3, -4 / 3])]
)
def test_values(operation: str, expected: list[float]) -> None:
    layer = make_layer(Reduction, f"reduction_param {{ operation: {operation} axis: 1 coeff: 2 }}", (2, 3))
    assert run(layer, tensor(VALUES))[0].tolist() == pytest.approx(expected)


def test_gradient_of_asum_at_zero() -> None:
    layer = make_layer(Reduction, "reduction_param { operation: ASUM }", (2, 3))
    assert gradient(layer, tensor(VALUES)) == [1, -1, 1, 0, 1, -1]


def test_refuses_axis() -> None:
    with pytest.raises(NetError, match=r"reduction_param\.axis is 2"):
        make_layer(Reduction, "reduction_param { axis: 2 }", (2, 3))
