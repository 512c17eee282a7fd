import pytest
import torch

from caffe_compat.errors import NetError
from caffe_compat.layers.bias import Bias
from tests.layers.harness import check_layer, make_layer, noise, on_devices, randomize, run

BOTTOM = (2, 3, 4)


@on_devices
@pytest.mark.parametrize(
    ("fields", "shape", "view"),
    [
        ("", (3,), (1, 3, 1)),
        ("axis: 0", (2,), (2, 1, 1)),
        ("axis: -1", (4,), (1, 1, 4)),
        ("axis: 0 num_axes: -1", (2, 3, 4), (2, 3, 4)),
        ("axis: 0 num_axes: 2", (2, 3), (2, 3, 1)),
        ("num_axes: 0", (), (1, 1, 1)),
    ],
)
def test_learned(device: str, fields: str, shape: tuple[int, ...], view: tuple[int, ...]) -> None:
    layer = randomize(make_layer(Bias, f"bias_param {{ {fields} }}", BOTTOM, device=device))
    bottom = noise(*BOTTOM, device=device)
    assert layer.blob_shapes == [shape]
    check_layer(layer, bottom)
    torch.testing.assert_close(run(layer, bottom)[0], bottom + layer.blob(0).reshape(view))


@on_devices
@pytest.mark.parametrize(("axis", "shape", "view"), [(1, (3, 4), (1, 3, 4)), (0, (2,), (2, 1, 1)), (1, (), (1, 1, 1))])
def test_second_bottom(device: str, axis: int, shape: tuple[int, ...], view: tuple[int, ...]) -> None:
    layer = make_layer(Bias, f"bias_param {{ axis: {axis} }}", BOTTOM, shape, device=device)
    bottom, bias = noise(*BOTTOM, device=device), noise(*shape, device=device, seed=1)
    assert not layer.blobs
    check_layer(layer, bottom, bias)
    torch.testing.assert_close(run(layer, bottom, bias)[0], bottom + bias.reshape(view))


@pytest.mark.parametrize(
    ("fields", "bottoms", "message"),
    [
        ("axis: 3", (BOTTOM,), "bias_param.axis is 3"),
        ("num_axes: 3", (BOTTOM,), r"bias_param.num_axes is 3; bottom \(2, 3, 4\) has 2 from axis 1 on"),
        ("num_axes: -2", (BOTTOM,), "num_axes is -2"),
        ("", (BOTTOM, (4,)), r"shape \(4,\) does not fit bottom \(2, 3, 4\) from axis 1 on"),
        ("axis: 2", (BOTTOM, (4, 1)), "does not fit"),
    ],
)
def test_refusals(fields: str, bottoms: tuple[tuple[int, ...], ...], message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(Bias, f"bias_param {{ {fields} }}", *bottoms)


def test_refuses_another_shape_later() -> None:
    layer = make_layer(Bias, "", BOTTOM)
    assert layer.infer_shapes((9, 3, 5)) == [(9, 3, 5)]
    with pytest.raises(NetError, match="does not fit"):
        layer.infer_shapes((2, 4, 4))
