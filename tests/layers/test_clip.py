import math

import pytest

from caffe_compat.layers.clip import Clip
from tests.layers.harness import check_layer, gradient, make_layer, noise, on_devices, run, tensor

FIELDS = "clip_param { min: -1 max: 2 }"


@on_devices
def test_layer(device: str) -> None:
    check_layer(make_layer(Clip, FIELDS, (4, 5), device=device), noise(4, 5, device=device))


def test_ends_pass_the_gradient() -> None:
    layer = make_layer(Clip, FIELDS, (5,))
    bottom = tensor([-1.5, -1.0, 0.0, 2.0, 2.5])
    assert run(layer, bottom)[0].tolist() == [-1, -1, 0, 2, 2]
    assert gradient(layer, bottom) == [0, 1, 1, 1, 0]


def test_nan_becomes_min() -> None:
    assert run(make_layer(Clip, FIELDS, (1,)), tensor([math.nan]))[0].tolist() == [-1]


def test_min_wins_over_a_smaller_max() -> None:
    layer = make_layer(Clip, "clip_param { min: 3 max: 1 }", (3,))
    assert run(layer, tensor([0.0, 2.0, 4.0]))[0].tolist() == [3, 3, 3]


def test_in_place_everything_passes() -> None:
    layer = make_layer(Clip, f'bottom: "x" top: "x" {FIELDS}', (2,))
    assert gradient(layer, tensor([-9.0, 9.0])) == [1, 1]


def test_missing_bounds_draw_a_warning() -> None:
    with pytest.warns(UserWarning, match="clip_param"):
        make_layer(Clip, "", (2,))
