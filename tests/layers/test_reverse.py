import pytest

from caffe_compat.errors import NetError
from caffe_compat.layers.reverse import Reverse
from tests.layers.harness import check_layer, make_layer, noise, on_devices, run, tensor
from tests.layers.onnx_form import check_onnx, numbers


@on_devices
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_layer(device: str, axis: int) -> None:
    layer = make_layer(Reverse, f"reverse_param {{ axis: {axis} }}", (2, 3, 4), device=device)
    check_layer(layer, noise(2, 3, 4, device=device))


def test_values() -> None:
    bottom = tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    assert run(make_layer(Reverse, "", (3, 2)), bottom)[0].tolist() == [[5, 6], [3, 4], [1, 2]]
    layer = make_layer(Reverse, "reverse_param { axis: 1 }", (3, 2))
    assert run(layer, bottom)[0].tolist() == [[2, 1], [4, 3], [6, 5]]


@pytest.mark.parametrize("axis", [-1, 2])
def test_refusals(axis: int) -> None:
    with pytest.raises(NetError, match=f"reverse_param.axis is {axis}; expected 0 to 1"):
        make_layer(Reverse, f"reverse_param {{ axis: {axis} }}", (3, 2))


def test_in_place_is_refused() -> None:
    with pytest.raises(NetError, match="cannot work in place"):
        make_layer(Reverse, 'bottom: "x" top: "x"', (2,))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_onnx(axis: int) -> None:
    check_onnx(f'type: "Reverse" reverse_param {{ axis: {axis} }}', numbers(2, 3, 4))
