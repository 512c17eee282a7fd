from types import EllipsisType

import pytest
import torch

from caffe_compat.errors import NetError
from caffe_compat.layers.crop import Crop
from tests.layers.harness import check_layer, make_layer, noise, on_devices, run

BOTTOM, LIKE = (2, 3, 6, 7), (1, 2, 4, 5)


@on_devices
@pytest.mark.parametrize(
    ("fields", "slices"),
    [
        ("", (..., slice(0, 4), slice(0, 5))),
        ("offset: 2", (..., slice(2, 6), slice(2, 7))),
        ("offset: 1 offset: 2", (..., slice(1, 5), slice(2, 7))),
        ("axis: -1 offset: 1", (..., slice(1, 6))),
        ("axis: 1 offset: 1 offset: 0 offset: 2", (slice(None), slice(1, 3), slice(0, 4), slice(2, 7))),
        ("axis: 0", (slice(0, 1), slice(0, 2), slice(0, 4), slice(0, 5))),
    ],
)
def test_layer(device: str, fields: str, slices: tuple[slice | EllipsisType, ...]) -> None:
    layer = make_layer(Crop, f"crop_param {{ {fields} }}", BOTTOM, LIKE, device=device)
    bottom, like = noise(*BOTTOM, device=device), noise(*LIKE, device=device).detach()
    check_layer(layer, bottom, like)
    assert torch.equal(run(layer, bottom, like)[0], bottom[slices])


@pytest.mark.parametrize(
    ("fields", "like", "message"),
    [
        ("axis: 4", LIKE, "crop_param.axis is 4"),
        ("offset: 1 offset: 1 offset: 1", LIKE, "offset is given 3 times; expected once, or for each of 2"),
        ("offset: 3", LIKE, r"axis 2 of bottom \(2, 3, 6, 7\) is too short for a crop of 4 from offset 3"),
        ("", (1, 2, 7, 5), "axis 2"),
        ("", (1, 2, 4), "the axes do not match"),
    ],
)
def test_refusals(fields: str, like: tuple[int, ...], message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(Crop, f"crop_param {{ {fields} }}", BOTTOM, like)
