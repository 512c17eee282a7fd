import math

import pytest

from caffe_compat.layers.selu import SeLu
from tests.layers.harness import check_layer, gradient, make_layer, noise, on_devices, run, tensor
from tests.layers.onnx_form import check_onnx, numbers

FIELDS = "selu_param { lambda: 2 alpha: 1.5 }"


@on_devices
@pytest.mark.parametrize("fields", ["", FIELDS])
def test_layer(device: str, fields: str) -> None:
    check_layer(make_layer(SeLu, fields, (3, 4), device=device), noise(3, 4, device=device))


def test_values_and_gradients() -> None:
    bottom = [-30.0, -1.0, 0.0, 2.0]
    layer = make_layer(SeLu, "", (4,))
    # the paper's, as the fork has them
    assert [layer.scale, layer.alpha] == pytest.approx([1.050700987, 1.67326324], rel=1e-7)
    expected = [layer.scale * (x if x > 0 else layer.alpha * (math.exp(x) - 1)) for x in bottom]
    assert run(layer, tensor(bottom))[0].tolist() == pytest.approx(expected, rel=1e-12)
    in_place = make_layer(SeLu, f'{FIELDS} bottom: "x" top: "x"', (4,))
    expected = [2.0 if x > 0 else 2 * 1.5 * math.exp(x) for x in bottom]
    assert gradient(in_place, tensor(bottom)) == pytest.approx(expected, rel=1e-12)


def test_onnx() -> None:
    check_onnx(f'type: "SeLu" {FIELDS}', 3 * numbers(3, 4))
