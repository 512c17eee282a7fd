import pytest
import torch

from caffe_compat.errors import NetError
from caffe_compat.layers.concat import Concat
from tests.layers.harness import check_layer, make_layer, noise, on_devices, run


@on_devices
@pytest.mark.parametrize("fields", ["", "axis: 1", "axis: -2", "concat_dim: 1"])
def test_layer(device: str, fields: str) -> None:
    layer = make_layer(Concat, f"concat_param {{ {fields} }}", (2, 3, 4), (2, 1, 4), device=device)
    bottoms = noise(2, 3, 4, device=device), noise(2, 1, 4, device=device, seed=1)
    check_layer(layer, *bottoms)
    assert torch.equal(run(layer, *bottoms)[0][:, 3:], bottoms[1])


def test_one_bottom_passes_through() -> None:
    check_layer(make_layer(Concat, "", (2, 3)), noise(2, 3))


@pytest.mark.parametrize(
    ("fields", "shapes", "message"),
    [
        ("axis: 1 concat_dim: 1", [(2, 3), (2, 3)], "both concat_param.axis and concat_dim"),
        ("concat_dim: 2", [(2, 3), (2, 3)], r"concat_dim is 2; bottom 0 has shape \(2, 3\)"),
        ("concat_dim: 4294967295", [(2, 3)], "concat_dim is 4294967295"),
        ("axis: 2", [(2, 3), (2, 3)], "axis is 2"),
        ("", [(2, 3), (3, 3)], r"bottom 1 has shape \(3, 3\), bottom 0 \(2, 3\)"),
        ("", [(2, 3), (2, 3, 1)], "same number of axes"),
    ],
)
def test_refusals(fields: str, shapes: list[tuple[int, ...]], message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(Concat, f"concat_param {{ {fields} }}", *shapes)
