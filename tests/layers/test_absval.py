import pytest

from caffe_compat.errors import NetError
from caffe_compat.layers.absval import AbsVal
from tests.layers.harness import check_layer, gradient, make_layer, noise, on_devices, tensor


@on_devices
def test_layer(device: str) -> None:
    check_layer(make_layer(AbsVal, "", (2, 3, 4), device=device), noise(2, 3, 4, device=device))


def test_gradient_is_zero_at_zero() -> None:
    assert gradient(make_layer(AbsVal, "", (3,)), tensor([-2.0, 0.0, 5.0])) == [-1, 0, 1]


def test_refuses_in_place() -> None:
    with pytest.raises(NetError, match=r'net.prototxt: layer "it" \(AbsVal\): .*in place'):
        make_layer(AbsVal, 'bottom: "x" top: "x"', (3,))
