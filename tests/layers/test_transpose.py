import numpy as np
import pytest

from caffe_compat.errors import NetError
from caffe_compat.layers.transpose import Transpose
from tests.layers.harness import check_layer, make_layer, noise, on_devices, run
from tests.layers.onnx_form import check_onnx, numbers

FIELDS = "transpose_param { dim: 3 dim: 0 dim: 2 dim: 1 }"


@on_devices
def test_layer(device: str) -> None:
    layer = make_layer(Transpose, FIELDS, (2, 3, 4, 5), device=device)
    bottom = noise(2, 3, 4, 5, device=device)
    check_layer(layer, bottom)
    (top,) = run(layer, bottom)
    assert top.shape == (5, 2, 4, 3)
    expected = np.transpose(bottom.detach().cpu().numpy(), (3, 0, 2, 1))
    np.testing.assert_array_equal(top.detach().cpu().numpy(), expected)


@pytest.mark.parametrize("dims", ["", "dim: 0 dim: 2", "dim: 0 dim: 0", "dim: 0 dim: -1", "dim: 0"])
def test_refusals(dims: str) -> None:
    with pytest.raises(NetError, match=r"transpose_param.dim is \(.*\); expected each axis of bottom \(2, 3\) once"):
        make_layer(Transpose, f"transpose_param {{ {dims} }}", (2, 3))


def test_in_place_is_refused() -> None:
    with pytest.raises(NetError, match="cannot work in place"):
        make_layer(Transpose, 'bottom: "x" top: "x" transpose_param { dim: 0 }', (2,))


def test_onnx() -> None:
    check_onnx(f'type: "Transpose" {FIELDS}', numbers(2, 3, 4, 5))
