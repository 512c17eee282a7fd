import numpy as np
import pytest

from caffe_compat.errors import NetError
from caffe_compat.layers.prior_box_clustered import PriorBoxClustered
from tests.layers.harness import check_layer, make_layer, noise, on_devices, run

FEATURES, IMAGE = (1, 2, 2, 3), (1, 3, 60, 80)


@on_devices
def test_layer(device: str) -> None:
    text = "prior_box_param { width: 10.5 height: 20 width: 3 height: 4 step: 16 variance: 0.2 clip: true flip: false }"
    layer = make_layer(PriorBoxClustered, text, FEATURES, IMAGE, device=device)
    bottoms = noise(*FEATURES, device=device), noise(*IMAGE, device=device)
    check_layer(layer, *bottoms, differentiable=False)
    top = run(layer, *bottoms)[0].cpu().numpy().reshape(2, 2, 3, 2, 4)
    for row, column, i in np.ndindex(2, 3, 2):
        x, y, (w, h) = 16 * (column + 0.5), 16 * (row + 0.5), ((10.5, 20), (3, 4))[i]
        edges = np.array([x - w / 2, y - h / 2, x + w / 2, y + h / 2]) / [80, 60, 80, 60]
        np.testing.assert_allclose(top[0, row, column, i], edges.clip(0, 1), rtol=1e-6)
    np.testing.assert_allclose(top[1], 0.2, rtol=1e-6)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("", "expected as many of each, at least 1, above 0"),
        ("width: 3 width: 4 height: 5", "expected as many of each, at least 1, above 0"),
        ("width: 3 height: 4 flip: true", "flip: PriorBoxClustered here does not read it"),
        ("width: 3 height: 4 min_size: 5", "min_size: PriorBoxClustered here does not read it"),
    ],
)
def test_refusals(fields: str, message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(PriorBoxClustered, f"prior_box_param {{ {fields} }}", FEATURES, IMAGE)
