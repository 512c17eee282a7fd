import math

import numpy as np
import pytest

from caffe_compat.errors import NetError
from caffe_compat.layers.resample import Resample
from tests.layers.harness import check_layer, make_layer, noise, on_devices, run, tensor
from tests.layers.onnx_form import check_onnx, numbers

BOTTOM = (2, 2, 6, 4)


def triangle(x: float) -> float:
    return max(0.0, 1 - abs(x))


def cubic(x: float) -> float:
    x = abs(x)
    if x <= 1:
        return x * x * (1.5 * x - 2.5) + 1
    return x * (x * (-0.5 * x + 2.5) - 4) + 2 if x < 2 else 0.0


def rounded(x: float) -> int:
    return int(math.copysign(math.floor(abs(x) + 0.5), x))


def resampled(bottom: np.ndarray, height: int, width: int, method: str, antialias: bool) -> np.ndarray:
    """The definition, pixel by pixel of both blobs, as FlowNet's kernels have it."""
    rows, columns = bottom.shape[2:]
    fx, fy = columns / width, rows / height
    widens = antialias and (fx > 1 or fy > 1)
    kernel, span = {"NEAREST": (triangle, 0), "LINEAR": (triangle, 2), "CUBIC": (cubic, 4)}[method]
    ax, ay = (1 / fx, 1 / fy) if widens else (1.0, 1.0)
    rx = 2 if fx < 1 else math.ceil(span / ax)
    ry = 2 if fy < 1 else math.ceil(span / ay)
    top = np.zeros((*bottom.shape[:2], height, width))
    for i, j in np.ndindex(height, width):
        # The halves are of the other axis' factor, as in the kernels.
        x, y = j * fx + fy / 2 - 0.5, i * fy + fx / 2 - 0.5
        if method == "NEAREST":
            top[:, :, i, j] = bottom[:, :, min(max(rounded(y), 0), rows - 1), min(max(rounded(x), 0), columns - 1)]
            continue
        total = 0.0
        for row in range(max(0, rounded(y) - ry), min(rows, rounded(y) + ry + 1)):
            for column in range(max(0, rounded(x) - rx), min(columns, rounded(x) + rx + 1)):
                weight = kernel(ax * (x - column)) * kernel(ay * (y - row))
                top[:, :, i, j] += weight * bottom[:, :, row, column]
                total += weight
        top[:, :, i, j] = top[:, :, i, j] / total if total else 0
    return top


@on_devices
@pytest.mark.parametrize("method", ["NEAREST", "LINEAR", "CUBIC"])
@pytest.mark.parametrize("antialias", ["true", "false"])
@pytest.mark.parametrize("sizes", [(12, 8), (3, 2), (2, 2), (9, 4), (6, 4)])
def test_layer(device: str, method: str, antialias: str, sizes: tuple[int, int]) -> None:
    fields = f"type: {method} antialias: {antialias} height: {sizes[0]} width: {sizes[1]}"
    layer = make_layer(Resample, f"resample_param {{ {fields} }}", BOTTOM, device=device)
    bottom = noise(*BOTTOM, device=device)
    expected = resampled(bottom.detach().cpu().numpy(), *sizes, method, antialias == "true")
    np.testing.assert_allclose(run(layer, bottom)[0].detach().cpu().numpy(), expected, rtol=1e-9, atol=1e-12)


@on_devices
def test_the_second_bottom_gives_the_size(device: str) -> None:
    layer = make_layer(Resample, "", BOTTOM, (2, 1, 3, 5), device=device)
    bottom = noise(*BOTTOM, device=device)
    check_layer(layer, bottom, noise(2, 1, 3, 5, device=device).detach())
    assert layer.infer_shapes(BOTTOM, (2, 1, 3, 5)) == [(2, 2, 3, 5)]


def test_value() -> None:
    # Halved: a triangle two pixels wide around 0.5 of each pair, cut off at the border.
    layer = make_layer(Resample, "resample_param { height: 1 width: 1 }", (1, 1, 2, 2))
    assert run(layer, tensor([[[[1.0, 2.0], [3.0, 6.0]]]]))[0].item() == pytest.approx(3)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("type: AREA height: 2 width: 2", "resample_param.type is AREA; expected NEAREST, LINEAR or CUBIC"),
        ("height: 2", "expected both, or a second bottom"),
    ],
)
def test_refusals(fields: str, message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(Resample, f"resample_param {{ {fields} }}", BOTTOM)


def test_factor_draws_a_warning() -> None:
    with pytest.warns(UserWarning, match="factor has no effect, as in FlowNet"):
        make_layer(Resample, "resample_param { height: 2 width: 2 factor: 2 }", BOTTOM)


@pytest.mark.parametrize("method", ["NEAREST", "LINEAR", "CUBIC"])
def test_onnx(method: str) -> None:
    check_onnx(f'type: "Resample" resample_param {{ type: {method} height: 4 width: 7 }}', numbers(*BOTTOM))
