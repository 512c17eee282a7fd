import pytest

from caffe_compat.errors import NetError
from caffe_compat.layers.tile import Tile
from tests.layers.harness import check_layer, make_layer, noise, on_devices, run, tensor


@on_devices
@pytest.mark.parametrize(("axis", "top"), [(0, (6, 2, 4)), (1, (2, 6, 4)), (-1, (2, 2, 12))])
def test_layer(device: str, axis: int, top: tuple[int, ...]) -> None:
    layer = make_layer(Tile, f"tile_param {{ axis: {axis} tiles: 3 }}", (2, 2, 4), device=device)
    assert layer.infer_shapes((2, 2, 4)) == [top]
    check_layer(layer, noise(2, 2, 4, device=device))


def test_repeats_the_whole_block() -> None:
    layer = make_layer(Tile, "tile_param { axis: 0 tiles: 2 }", (2, 1))
    assert run(layer, tensor([[1.0], [2.0]]))[0].flatten().tolist() == [1, 2, 1, 2]


@pytest.mark.parametrize("fields", ["", "tiles: 0", "tiles: -1", "tiles: 2 axis: 2"])
def test_refusals(fields: str) -> None:
    with pytest.raises(NetError, match="tile_param"):
        make_layer(Tile, f"tile_param {{ {fields} }}", (2, 3))
