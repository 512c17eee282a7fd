import pytest
import torch

from caffe_compat.layers.relu import ReLU
from tests.layers.harness import check_layer, gradient, make_layer, noise, on_devices, run, tensor

BOTTOM = [-2.0, 0.0, 3.0]
IN_PLACE = 'bottom: "x" top: "x"'


@on_devices
@pytest.mark.parametrize("slope", [0.0, 0.25, -0.5])
@pytest.mark.parametrize("engine", ["DEFAULT", "CAFFE", "CUDNN"])
def test_values(device: str, slope: float, engine: str) -> None:
    layer = make_layer(ReLU, f"relu_param {{ negative_slope: {slope} engine: {engine} }}", (3,), device=device)
    bottom = tensor(BOTTOM, device)
    assert run(layer, bottom)[0].tolist() == [-2 * slope, 0.0, 3.0]
    assert gradient(layer, bottom, [10.0, 20.0, 30.0]) == [10 * slope, 20 * slope, 30.0]


@on_devices
@pytest.mark.parametrize(
    ("slope", "expected"),
    [
        (0.0, [0.0, 0.0, 30.0]),
        (0.25, [2.5, 5.0, 30.0]),
        # The top of -2 is 1, and Caffe judges by what stands in the blob then: as if the bottom had been positive.
        (-0.5, [10.0, -10.0, 30.0]),
    ],
)
def test_gradient_in_place(device: str, slope: float, expected: list[float]) -> None:
    layer = make_layer(ReLU, f"{IN_PLACE} relu_param {{ negative_slope: {slope} }}", (3,), device=device)
    bottom = tensor(BOTTOM, device)
    assert run(layer, bottom)[0].tolist() == [-2 * slope, 0.0, 3.0]
    assert gradient(layer, bottom, [10.0, 20.0, 30.0]) == expected
    assert bottom.tolist() == BOTTOM, "a bottom is never overwritten"


@on_devices
@pytest.mark.parametrize("slope", [0, 0.1])
def test_layer(device: str, slope: float) -> None:
    layer = make_layer(ReLU, f"relu_param {{ negative_slope: {slope} }}", (2, 3, 4), device=device)
    check_layer(layer, noise(2, 3, 4, device=device))


def test_nan_stays() -> None:
    (top,) = run(make_layer(ReLU, "", (2,)), torch.tensor([torch.nan, -torch.inf], dtype=torch.float64))
    assert top[0].isnan()
    assert top[1] == 0
