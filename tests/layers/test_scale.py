import pytest
import torch

from caffe_compat.errors import NetError
from caffe_compat.layers.scale import Scale
from tests.layers.harness import check_layer, make_layer, noise, on_devices, randomize, run

BOTTOM = (2, 3, 4)


@on_devices
@pytest.mark.parametrize(
    ("fields", "shape", "view"),
    [
        ("", (3,), (1, 3, 1)),
        ("axis: 0 bias_term: true", (2,), (2, 1, 1)),
        ("axis: 0 num_axes: -1", (2, 3, 4), (2, 3, 4)),
        ("axis: -2 num_axes: 2 bias_term: true", (3, 4), (1, 3, 4)),
        ("num_axes: 0 bias_term: true", (), (1, 1, 1)),
    ],
)
def test_learned(device: str, fields: str, shape: tuple[int, ...], view: tuple[int, ...]) -> None:
    layer = randomize(make_layer(Scale, f"scale_param {{ {fields} }}", BOTTOM, device=device))
    bottom = noise(*BOTTOM, device=device)
    check_layer(layer, bottom)
    expected = bottom * layer.blob(0).reshape(view)
    if "bias" in fields:
        assert layer.blob_shapes == [shape, shape]
        expected = expected + layer.blob(1).reshape(view)
    torch.testing.assert_close(run(layer, bottom)[0], expected)


@on_devices
@pytest.mark.parametrize(("axis", "shape", "view"), [(1, (3, 4), (1, 3, 4)), (0, (2,), (2, 1, 1)), (0, (), (1, 1, 1))])
@pytest.mark.parametrize("bias", ["true", "false"])
def test_second_bottom(device: str, axis: int, shape: tuple[int, ...], view: tuple[int, ...], bias: str) -> None:
    layer = make_layer(Scale, f"scale_param {{ axis: {axis} bias_term: {bias} }}", BOTTOM, shape, device=device)
    randomize(layer)
    bottom, scale = noise(*BOTTOM, device=device), noise(*shape, device=device, seed=1)
    check_layer(layer, bottom, scale)
    expected = bottom * scale.reshape(view) + (layer.blob(0).reshape(view) if bias == "true" else 0)
    torch.testing.assert_close(run(layer, bottom, scale)[0], expected)


def test_starts_as_the_identity() -> None:
    layer = make_layer(Scale, "scale_param { bias_term: true }", BOTTOM)
    assert layer.blob_names == ["weight", "bias"]
    assert torch.equal(run(layer, noise(*BOTTOM))[0], noise(*BOTTOM))


def test_fillers() -> None:
    layer = make_layer(Scale, "scale_param { bias_term: true filler { value: 3 } bias_filler { value: 4 } }", BOTTOM)
    assert [set(blob.tolist()) for blob in layer.blobs] == [{3.0}, {4.0}]


@pytest.mark.parametrize(
    ("fields", "bottoms", "message"),
    [
        ("axis: -4", (BOTTOM,), "scale_param.axis is -4"),
        ("num_axes: 3", (BOTTOM,), "scale_param.num_axes is 3"),
        ("", (BOTTOM, (4,)), "does not fit"),
        ("bias_term: true", (BOTTOM, (3, 4, 1)), "scale_param.num_axes is 3"),
    ],
)
def test_refusals(fields: str, bottoms: tuple[tuple[int, ...], ...], message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(Scale, f"scale_param {{ {fields} }}", *bottoms)
