import pytest

from caffe_compat.errors import NetError
from caffe_compat.layers.reshape import Reshape
from tests.layers.harness import check_layer, make_layer, noise, on_devices

BOTTOM = (2, 8, 3)


def fields(dims: tuple[int, ...], rest: str = "") -> str:
    shape = " ".join(f"dim: {dim}" for dim in dims)
    return f"reshape_param {{ shape {{ {shape} }} {rest} }}"


@on_devices
@pytest.mark.parametrize(
    ("dims", "rest", "top"),
    [
        ((2, 24), "", (2, 24)),
        ((0, -1), "", (2, 24)),
        ((0, 4, -1), "", (2, 4, 6)),
        ((-1,), "", (48,)),
        ((2, -1), "axis: 1 num_axes: 1", (2, 2, 4, 3)),
        ((2, 4), "axis: -3 num_axes: 1", (2, 2, 4, 3)),
        ((1, 1), "axis: -1", (2, 8, 3, 1, 1)),
        ((1,), "axis: 0 num_axes: 0", (1, 2, 8, 3)),
        ((0, 4), "axis: 1", (2, 8, 4)),
        ((), "axis: 3", (2, 8, 3)),
    ],
)
def test_layer(device: str, dims: tuple[int, ...], rest: str, top: tuple[int, ...]) -> None:
    bottom = BOTTOM if dims != (0, 4) else (2, 8, 4)
    layer = make_layer(Reshape, fields(dims, rest), bottom, device=device)
    assert layer.infer_shapes(bottom) == [top]
    check_layer(layer, noise(*bottom, device=device))


def test_no_dims_make_a_scalar() -> None:
    assert make_layer(Reshape, "", (1, 1)).infer_shapes((1, 1)) == [()]


@pytest.mark.parametrize(
    ("dims", "rest", "message"),
    [
        ((-1, -1), "", "at most one -1"),
        ((-2, 4), "", "at most one -1"),
        ((5, -1), "", r"bottom \(2, 8, 3\) has 48 values; .* a multiple of 5"),
        ((7, 7), "", r"has 48 values; the new shape \(7, 7\) has 49"),
        ((2, 8, 3, 0), "", "no axis 3"),
        ((1,), "axis: 4", "axis is 4; expected -4 to 3"),
        ((1,), "axis: -5", "axis is -5"),
        ((1,), "num_axes: -2", "num_axes is -2; expected -1 to 3"),
        ((1,), "axis: 1 num_axes: 3", "num_axes is 3; expected -1 to 2"),
    ],
)
def test_refusals(dims: tuple[int, ...], rest: str, message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(Reshape, fields(dims, rest), BOTTOM)


def test_refuses_in_place() -> None:
    with pytest.raises(NetError, match="in place"):
        make_layer(Reshape, f'bottom: "x" top: "x" {fields((0, -1))}', BOTTOM)


def test_refuses_to_infer_beside_an_empty_axis() -> None:
    with pytest.raises(NetError, match="a multiple of 0"):
        make_layer(Reshape, fields((0, -1)), (0, 3))
