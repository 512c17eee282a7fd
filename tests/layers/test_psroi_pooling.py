import math
from itertools import product

import numpy as np
import pytest
import torch

from caffe_compat.errors import NetError
from caffe_compat.layers.psroi_pooling import PSROIPooling
from tests.layers.harness import make_layer, noise, on_devices, opencv_case, run, tensor

FEATURES = (2, 8, 6, 7)  # 2 output channels, 2 by 2 bins
FIELDS = "psroi_pooling_param { spatial_scale: 0.5 output_dim: 2 group_size: 2 }"
ROIS = [[0.0, 0, 0, 11, 9], [1, 3.5, 2.5, 9, 30], [0, 4, 4, 4, 4], [1, 40, 40, 60, 60], [1, 6, 6, 2, 2]]


def by_definition(features: np.ndarray, rois: np.ndarray) -> np.ndarray:
    """R-FCN's kernel, bin by bin."""
    top = np.zeros((len(rois), 2, 2, 2))
    for r, d, i, j in product(*map(range, top.shape)):
        x1, y1, x2, y2 = (math.floor(value + 0.5) for value in rois[r, 1:])
        x, w = x1 * 0.5, max((x2 + 1) * 0.5 - x1 * 0.5, 0.1) / 2
        y, h = y1 * 0.5, max((y2 + 1) * 0.5 - y1 * 0.5, 0.1) / 2
        rows = [row for row in range(6) if math.floor(i * h + y) <= row < math.ceil((i + 1) * h + y)]
        columns = [column for column in range(7) if math.floor(j * w + x) <= column < math.ceil((j + 1) * w + x)]
        values = features[int(rois[r, 0]), (d * 2 + i) * 2 + j][np.ix_(rows, columns)]
        top[r, d, i, j] = values.mean() if values.size else 0
    return top


@on_devices
def test_equals_the_definition(device: str) -> None:
    layer = make_layer(PSROIPooling, FIELDS, FEATURES, (len(ROIS), 5), device=device)
    features, rois = noise(*FEATURES, device=device), tensor(ROIS, device)
    expected = by_definition(features.detach().cpu().numpy(), np.array(ROIS))
    np.testing.assert_allclose(run(layer, features, rois)[0].detach().cpu().numpy(), expected, rtol=1e-12, atol=1e-15)


def test_equals_opencv() -> None:
    layer, bottoms, expected = opencv_case(PSROIPooling, "psroi_pooling")
    torch.testing.assert_close(run(layer, *bottoms)[0], expected, rtol=0, atol=1e-6)


@on_devices
def test_gradient(device: str) -> None:
    layer = make_layer(PSROIPooling, FIELDS, FEATURES, (len(ROIS), 5), device=device)
    rois = tensor(ROIS, device)
    assert torch.autograd.gradcheck(
        lambda features: layer(features, rois), noise(*FEATURES, device=device), fast_mode=True
    )
    top = layer(noise(*FEATURES, device=device), rois)
    (none,) = torch.autograd.grad(top.sum(), rois, allow_unused=True)
    assert none is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("output_dim: 2 group_size: 2", "spatial_scale 0.0; expected numbers above 0"),
        ("spatial_scale: 1 output_dim: 3 group_size: 2", "expected 12 channels"),
    ],
)
def test_refusals(fields: str, message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(PSROIPooling, f"psroi_pooling_param {{ {fields} }}", FEATURES, (1, 5))
