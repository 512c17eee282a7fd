import math
from itertools import product

import numpy as np
import pytest
import torch

from caffe_compat.errors import NetError
from caffe_compat.layers.roi_align import ROIAlign
from tests.layers.harness import make_layer, noise, on_devices, run, tensor

FEATURES = (2, 3, 6, 7)
ROIS = [
    [0.0, 0, 0, 11, 9],
    [1, 3.5, 2.5, 9, 30],
    [0, 4, 4, 4, 4],
    [1, 40, 40, 60, 60],
    [1, 6, 6, 2, 2],
    [0, -6, -3, 5, 8],
]


def interpolated(image: np.ndarray, y: float, x: float) -> np.ndarray:
    """Each channel of (C, H, W) at a place, the nearest one inside."""
    y, x = min(max(y, 0), image.shape[1] - 1), min(max(x, 0), image.shape[2] - 1)
    (i, dy), (j, dx) = ((int(v), v - int(v)) for v in (y, x))
    below, right = min(i + 1, image.shape[1] - 1), min(j + 1, image.shape[2] - 1)
    upper = (1 - dx) * image[:, i, j] + dx * image[:, i, right]
    result: np.ndarray = (1 - dy) * upper + dy * ((1 - dx) * image[:, below, j] + dx * image[:, below, right])
    return result


def mask_rcnn(features: np.ndarray, rois: np.ndarray, pooled: tuple[int, int], ratio: int) -> np.ndarray:
    top = np.zeros((len(rois), features.shape[1], *pooled))
    for r, i, j in product(range(len(rois)), *map(range, pooled)):
        x1, y1, x2, y2 = rois[r, 1:] * 0.5
        h, w = max(y2 - y1, 1) / pooled[0], max(x2 - x1, 1) / pooled[1]
        rows, columns = (ratio if ratio > 0 else math.ceil(part) for part in (h, w))
        for a, b in product(range(rows), range(columns)):
            y, x = y1 + (i + (a + 0.5) / rows) * h, x1 + (j + (b + 0.5) / columns) * w
            if -1 <= y <= features.shape[2] and -1 <= x <= features.shape[3]:
                top[r, :, i, j] += interpolated(features[int(rois[r, 0])], y, x) / (rows * columns)
    return top


def cascade_rcnn(features: np.ndarray, rois: np.ndarray, pooled: tuple[int, int], pad: float) -> np.ndarray:
    top = np.zeros((len(rois), features.shape[1], pooled[0] + 1, pooled[1] + 1))
    for r, i, j in product(range(len(rois)), range(pooled[0] + 1), range(pooled[1] + 1)):
        x1, y1, x2, y2 = rois[r, 1:]
        w, h = (x2 - x1 + 1) * pad, (y2 - y1 + 1) * pad
        x1, y1, x2, y2 = (x1 - w) * 0.5 - 0.5, (y1 - h) * 0.5 - 0.5, (x2 + w) * 0.5 - 0.5, (y2 + h) * 0.5 - 0.5
        y, x = y1 + i * (y2 - y1) / pooled[0], x1 + j * (x2 - x1) / pooled[1]
        inside = -0.5 <= y <= features.shape[2] - 0.5 and -0.5 <= x <= features.shape[3] - 0.5
        if inside and y2 > y1 and x2 > x1:
            top[r, :, i, j] = interpolated(features[int(rois[r, 0])], y, x)
    return top


@on_devices
@pytest.mark.parametrize("ratio", [-1, 3])
def test_mask_rcnn(device: str, ratio: int) -> None:
    text = f"roi_align_param {{ pooled_h: 3 pooled_w: 2 spatial_scale: 0.5 sampling_ratio: {ratio} }}"
    layer = make_layer(ROIAlign, text, FEATURES, (len(ROIS), 5), device=device)
    features, rois = noise(*FEATURES, device=device), tensor(ROIS, device)
    expected = mask_rcnn(features.detach().cpu().numpy(), np.array(ROIS), (3, 2), ratio)
    np.testing.assert_allclose(run(layer, features, rois)[0].detach().cpu().numpy(), expected, rtol=1e-12, atol=1e-14)
    assert torch.autograd.gradcheck(lambda values: layer(values, rois.detach()), features, fast_mode=True)


@on_devices
@pytest.mark.parametrize("pad_ratio", [0, 0.5])
def test_cascade_rcnn(device: str, pad_ratio: float) -> None:
    text = f"roi_pooling_param {{ pooled_h: 3 pooled_w: 2 spatial_scale: 0.5 pad_ratio: {pad_ratio} }}"
    layer = make_layer(ROIAlign, text, FEATURES, (len(ROIS), 5), device=device)
    features, rois = noise(*FEATURES, device=device), tensor(ROIS, device)
    expected = cascade_rcnn(features.detach().cpu().numpy(), np.array(ROIS), (3, 2), pad_ratio)
    np.testing.assert_allclose(run(layer, features, rois)[0].detach().cpu().numpy(), expected, rtol=1e-12, atol=1e-14)


def test_no_gradient_to_the_regions() -> None:
    layer = make_layer(ROIAlign, "roi_align_param { pooled_h: 2 pooled_w: 2 }", FEATURES, (1, 5))
    rois = tensor([[0, 1, 1, 4, 4]])
    (none,) = torch.autograd.grad(layer(noise(*FEATURES), rois).sum(), rois, allow_unused=True)
    assert none is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("", "expected either roi_align_param .* or roi_pooling_param"),
        ("roi_align_param { pooled_h: 1 }", r"pooled_h and pooled_w are \(1, 0\)"),
        ("roi_align_param { pooled_h: 1 pooled_w: 1 roi_end_mode: 1 }", "roi_end_mode: ROIAlign here does not read it"),
    ],
)
def test_refusals(fields: str, message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(ROIAlign, fields, FEATURES, (1, 5))
