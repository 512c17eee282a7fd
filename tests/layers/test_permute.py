import numpy as np
import pytest

from caffe_compat.errors import NetError
from caffe_compat.layers.permute import Permute
from tests.layers.harness import check_layer, make_layer, noise, on_devices, run

SHAPE = (2, 3, 4, 5)


@on_devices
@pytest.mark.parametrize(
    ("order", "axes"),
    [((0, 2, 3, 1), (0, 2, 3, 1)), ((3, 0), (3, 0, 1, 2)), ((), (0, 1, 2, 3))],
    ids=["to NHWC", "incomplete", "none"],
)
def test_layer(device: str, order: tuple[int, ...], axes: tuple[int, ...]) -> None:
    fields = " ".join(f"order: {axis}" for axis in order)
    layer = make_layer(Permute, f"permute_param {{ {fields} }}", SHAPE, device=device)
    x = noise(*SHAPE, device=device)
    check_layer(layer, x)
    expected = np.transpose(x.detach().cpu().numpy(), axes)
    assert np.array_equal(run(layer, x)[0].detach().cpu().numpy(), expected)


@pytest.mark.parametrize("order", ["order: 1 order: 1", "order: 4"])
def test_refuses_other_orders(order: str) -> None:
    with pytest.raises(NetError, match=r"permute_param\.order is .*; expected different axes from 0 to 3"):
        make_layer(Permute, f"permute_param {{ {order} }}", SHAPE)


def test_refuses_another_number_of_axes() -> None:
    layer = make_layer(Permute, "", SHAPE)
    with pytest.raises(NetError, match=r"bottom has shape \(2, 3\); expected 4 axes"):
        layer.infer_shapes((2, 3))
