import pytest
import torch
from torch.nn import functional

from caffe_compat.errors import NetError
from caffe_compat.layers.spp import SPP
from tests.layers.harness import check_layer, make_layer, noise, on_devices, run


@on_devices
@pytest.mark.parametrize("pool", ["MAX", "AVE"])
def test_layer(device: str, pool: str) -> None:
    layer = make_layer(SPP, f"spp_param {{ pyramid_height: 3 pool: {pool} }}", (2, 3, 8, 12), device=device)
    bottom = noise(2, 3, 8, 12, device=device)
    check_layer(layer, bottom)
    # Where the bins divide the bottom evenly, they are PyTorch's.
    adaptive = functional.adaptive_max_pool2d if pool == "MAX" else functional.adaptive_avg_pool2d
    expected = torch.cat([adaptive(bottom, bins).flatten(1) for bins in (1, 2, 4)], 1)
    torch.testing.assert_close(run(layer, bottom)[0], expected)


def test_uneven_bins_are_padded_on_both_sides() -> None:
    layer = make_layer(SPP, "spp_param { pyramid_height: 2 pool: MAX }", (1, 1, 3, 5))
    (top,) = run(layer, torch.arange(15.0, dtype=torch.float64).reshape(1, 1, 3, 5))
    # Level 1: 2 x 3 windows from (-1, -1): rows {0}, {1, 2}; columns {0, 1}, {2, 3, 4}
    assert top.tolist() == [[14, 1, 4, 11, 14]]


def test_one_level_keeps_four_axes() -> None:
    layer = make_layer(SPP, "spp_param { pyramid_height: 1 pool: AVE }", (2, 3, 4, 5))
    bottom = noise(2, 3, 4, 5)
    torch.testing.assert_close(run(layer, bottom)[0], bottom.mean((2, 3), keepdim=True))


def test_follows_the_size_of_its_bottom() -> None:
    layer = make_layer(SPP, "spp_param { pyramid_height: 2 pool: MAX }", (1, 2, 4, 4))
    bottom = noise(1, 2, 7, 9)
    assert run(layer, bottom)[0].shape == (1, 10)
    assert layer.infer_shapes((3, 2, 7, 9)) == [(3, 10)]


@pytest.mark.parametrize(
    ("height", "bottom", "message"),
    [
        (0, (1, 1, 4, 4), "pyramid_height is missing or 0"),
        (2, (1, 1, 4), "expected 4 axes"),
        (3, (1, 1, 5, 8), "5 x 8 is too small for 4 x 4 bins"),
    ],
)
def test_refusals(height: int, bottom: tuple[int, ...], message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(SPP, f"spp_param {{ pyramid_height: {height} }}", bottom)
