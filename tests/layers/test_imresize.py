import math

import numpy as np
import pytest

from caffe_compat.errors import NetError
from caffe_compat.layers.imresize import ImResize
from tests.layers.harness import check_layer, make_layer, noise, on_devices, run

SHAPE = (1, 2, 6, 7)


def spline(values: np.ndarray, t: float) -> float:
    """The Catmull-Rom spline through four values, between the second and the third."""
    a, b, c, d = values
    return float(b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a))))


def by_definition(maps: np.ndarray, sizes: tuple[int, int], start: float, gap: float) -> np.ndarray:
    """The fork's kernel, point by point."""
    top = np.zeros((1, maps.shape[1], *sizes))
    for n, c, y, x in np.ndindex(*maps.shape[:2], *sizes):
        pads = [math.floor(size // 2 * (1 - start + n * gap)) for size in maps.shape[2:]]
        taps, rest = [], []
        for place, size, pad, target in zip((y, x), maps.shape[2:], pads, sizes, strict=True):
            inner = size - 2 * pad
            on_map = (place - (target / inner / 2 - 0.5)) * inner / target
            second = max(int(on_map + 1e-5), 0)
            taps.append([min(max(second + i, 0), inner - 1) + pad for i in (-1, 0, 1, 2)])
            rest.append(on_map - second)
        rows = [spline(maps[n, c, row, taps[1]], rest[1]) for row in taps[0]]
        top[0, c, y, x] += spline(np.array(rows), rest[0]) / len(maps)
    return top


@on_devices
@pytest.mark.parametrize(
    ("fields", "sizes"),
    [("factor: 2", (12, 14)), ("factor: 1.5", (9, 10)), ("target_spatial_width: 9 target_spatial_height: 4", (4, 9))],
)
def test_layer(device: str, fields: str, sizes: tuple[int, int]) -> None:
    layer = make_layer(ImResize, f"imresize_param {{ {fields} }}", SHAPE, device=device)
    x = noise(*SHAPE, device=device)
    check_layer(layer, x)
    expected = by_definition(x.detach().cpu().numpy(), sizes, 1, 0.1)
    np.testing.assert_allclose(run(layer, x)[0].detach().cpu().numpy(), expected, rtol=1e-9, atol=1e-12)


def test_scales_are_averaged() -> None:
    # Maps of 10 by 12 without a border of 1.5 and 1.8 pixels, cut: (1 and 1), then of 3 and 3.
    shape = (3, 1, 10, 12)
    layer = make_layer(ImResize, "imresize_param { factor: 2 start_scale: 1 scale_gap: 0.3 }", shape)
    assert layer.infer_shapes(shape) == [(1, 1, 20, 24)]
    x = noise(*shape)
    expected = by_definition(x.detach().numpy(), (20, 24), 1, float(np.float32(0.3)))
    np.testing.assert_allclose(run(layer, x)[0].detach().numpy(), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("fields", "shape", "message"),
    [
        ("factor: 2", (2, 3), r"bottom has shape \(2, 3\); expected \(N, C, H, W\)"),
        ("factor: 0.1", SHAPE, "nothing is left of it"),
        ("factor: 2 scale_gap: 0.5", (3, 1, 6, 6), "nothing is left of it"),
    ],
)
def test_refusals(fields: str, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(ImResize, f"imresize_param {{ {fields} }}", shape)
