import pytest
import torch

from caffe_compat.errors import NetError
from caffe_compat.layers.slice import Slice
from tests.layers.harness import check_layer, make_layer, noise, on_devices, run

BOTTOM = (2, 6, 3)


def fields(tops: int, text: str = "") -> str:
    return " ".join(f'top: "y{i}"' for i in range(tops)) + f" slice_param {{ {text} }}"


@on_devices
@pytest.mark.parametrize(
    ("tops", "text", "sizes"),
    [
        (3, "", [2, 2, 2]),
        (2, "slice_dim: 1", [3, 3]),
        (3, "axis: -2 slice_point: 1 slice_point: 3", [1, 2, 3]),
        (1, "", [6]),
    ],
)
def test_layer(device: str, tops: int, text: str, sizes: list[int]) -> None:
    layer = make_layer(Slice, fields(tops, text), BOTTOM, device=device)
    bottom = noise(*BOTTOM, device=device)
    assert layer.infer_shapes(BOTTOM) == [(2, size, 3) for size in sizes]
    check_layer(layer, bottom)
    assert torch.equal(torch.cat(run(layer, bottom), 1), bottom)


@pytest.mark.parametrize(
    ("tops", "text", "message"),
    [
        (2, "axis: 1 slice_dim: 1", "both slice_param.axis and slice_dim"),
        (2, "slice_dim: 3", "slice_dim is 3"),
        (2, "axis: 3", "axis is 3"),
        (4, "", r"4 tops cannot share 6 values evenly \(axis 1 of bottom \(2, 6, 3\)\)"),
        (3, "slice_point: 1", "1 slice_param.slice_point for 3 tops; expected 2"),
        (3, "slice_point: 3 slice_point: 2", "growing numbers between 0 and 6"),
        (2, "slice_point: 0", "growing numbers"),
        (2, "slice_point: 6", "growing numbers"),
    ],
)
def test_refusals(tops: int, text: str, message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(Slice, fields(tops, text), BOTTOM)
