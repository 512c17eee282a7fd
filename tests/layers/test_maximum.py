import pytest
import torch

from caffe_compat.errors import NetError
from caffe_compat.layers.maximum import Maximum
from tests.layers.harness import check_layer, make_layer, noise, on_devices, run
from tests.layers.onnx_form import check_onnx, numbers


@on_devices
def test_layer(device: str) -> None:
    layer = make_layer(Maximum, "", (2, 3, 4, 5), device=device)
    bottom = noise(2, 3, 4, 5, device=device)
    check_layer(layer, bottom, differentiable=False)
    (top,) = run(layer, bottom)
    for n in range(2):
        for c in range(3):
            x, y, value = top[n, c, 0].tolist()
            assert value == bottom[n, c].max() == bottom[n, c, int(y), int(x)]


def test_first_of_equal_ones_and_a_map_below_zero() -> None:
    layer = make_layer(Maximum, "", (1, 1, 2, 3))
    bottom = torch.tensor([[[[-3.0, -2, -1], [-1, -5, -1]]]], dtype=torch.float64)
    assert run(layer, bottom)[0].flatten().tolist() == [2, 0, -1]


def test_refusals() -> None:
    with pytest.raises(NetError, match="expected 4 axes"):
        make_layer(Maximum, "", (2, 3))


def test_onnx() -> None:
    check_onnx('type: "Maximum"', numbers(2, 3, 4, 5))
