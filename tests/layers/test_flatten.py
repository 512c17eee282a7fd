import pytest

from caffe_compat.errors import NetError
from caffe_compat.layers.flatten import Flatten
from tests.layers.harness import check_layer, make_layer, noise, on_devices

BOTTOM = (2, 3, 4, 5)


@on_devices
@pytest.mark.parametrize(
    ("fields", "top"),
    [
        ("", (2, 60)),
        ("axis: 0", (120,)),
        ("axis: 2", (2, 3, 20)),
        ("axis: -3 end_axis: -2", (2, 12, 5)),
        ("axis: 2 end_axis: 1", (2, 3, 1, 4, 5)),
    ],
)
def test_layer(device: str, fields: str, top: tuple[int, ...]) -> None:
    layer = make_layer(Flatten, f"flatten_param {{ {fields} }}", BOTTOM, device=device)
    assert layer.infer_shapes(BOTTOM) == [top]
    check_layer(layer, noise(*BOTTOM, device=device))


@pytest.mark.parametrize("fields", ["axis: 4", "end_axis: 4", "axis: 3 end_axis: 1"])
def test_refusals(fields: str) -> None:
    with pytest.raises(NetError, match="flatten_param"):
        make_layer(Flatten, f"flatten_param {{ {fields} }}", BOTTOM)


def test_refuses_in_place() -> None:
    with pytest.raises(NetError, match="in place"):
        make_layer(Flatten, 'bottom: "x" top: "x"', BOTTOM)
