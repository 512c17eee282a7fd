import numpy as np
import pytest

from caffe_compat.errors import NetError
from caffe_compat.layers.grn import GRN
from tests.layers.harness import check_layer, gradient, make_layer, noise, on_devices, run
from tests.layers.onnx_form import check_onnx, numbers

SHAPE = (2, 3, 2, 4)


@on_devices
def test_equals_the_definition(device: str) -> None:
    layer = make_layer(GRN, "grn_param { bias: 0.25 }", SHAPE, device=device)
    bottom = noise(*SHAPE, device=device)
    check_layer(layer, bottom)
    x = bottom.detach().cpu().numpy()
    expected = np.empty(SHAPE)
    for n, c, h, w in np.ndindex(*SHAPE):
        expected[n, c, h, w] = x[n, c, h, w] / np.sqrt((x[n, :, h, w] ** 2).sum() + 0.25)
    np.testing.assert_allclose(run(layer, bottom)[0].detach().cpu().numpy(), expected, rtol=1e-12)


def test_dummy_backward_passes_the_gradient_on() -> None:
    layer = make_layer(GRN, "grn_param { dummy_backward: true }", (1, 2))
    assert run(layer, noise(1, 2))[0].square().sum().item() == pytest.approx(1, abs=1e-6)
    assert gradient(layer, noise(1, 2), [[3.0, -2.0]]) == [3, -2]


def test_refusals() -> None:
    with pytest.raises(NetError, match=r"bias is -1\.0; expected at least 0"):
        make_layer(GRN, "grn_param { bias: -1 }", SHAPE)
    with pytest.raises(NetError, match="expected at least 2 axes"):
        make_layer(GRN, "", (2,))


def test_onnx() -> None:
    check_onnx('type: "GRN" grn_param { bias: 0.1 }', numbers(2, 3, 4, 5))
