import math
from itertools import product

import numpy as np
import pytest
import torch

from caffe_compat.errors import NetError
from caffe_compat.layers.roi_pooling import ROIPooling
from caffe_compat.tools._onnx import to_onnx
from tests.layers.harness import make_layer, noise, on_devices, opencv_case, run, tensor
from tests.onnx_harness import net_of, run_model

FEATURES = (2, 3, 8, 9)
ROIS = [
    [0.0, 0, 0, 15, 13],
    [1, 3, 5, 20, 30],  # partly outside
    [0, 7, 7, 7, 7],  # one pixel
    [1, 40, 40, 60, 60],  # outside
    [0, -9, -5, 4, 6],
    [1, 9, 9, 2, 2],  # turned inside out: one pixel
    [0, 1, 3, 5, 7],  # halves: away from zero
]


def by_definition(
    features: np.ndarray, rois: np.ndarray, pooled: tuple[int, int], scale: float, pad: float
) -> np.ndarray:
    """Fast R-CNN's loop; also mscnn's padding."""
    top = np.zeros((len(rois), features.shape[1], *pooled))
    for r, c, i, j in product(*map(range, top.shape)):
        image, x1, y1, x2, y2 = rois[r]
        w, h = (x2 - x1 + 1) * pad, (y2 - y1 + 1) * pad
        x1, y1, x2, y2 = (rounded(v * scale) for v in (x1 - w, y1 - h, x2 + w, y2 + h))
        rows = span(y1, max(y2 - y1 + 1, 1) / pooled[0], i, features.shape[2])
        columns = span(x1, max(x2 - x1 + 1, 1) / pooled[1], j, features.shape[3])
        values = features[int(image), c, rows, columns]
        top[r, c, i, j] = values.max() if values.size else 0
    return top


def rounded(value: float) -> int:
    return int(math.copysign(math.floor(abs(value) + 0.5), value))


def span(start: int, part: float, i: int, size: int) -> slice:
    edges = (math.floor(i * part) + start, math.ceil((i + 1) * part) + start)
    first, end = (min(max(edge, 0), size) for edge in edges)
    return slice(first, max(first, end))


@on_devices
@pytest.mark.parametrize("pad_ratio", [0, 0.25])
@pytest.mark.parametrize("pooled", [(1, 1), (3, 2)])
def test_equals_the_definition(device: str, pooled: tuple[int, int], pad_ratio: float) -> None:
    text = f"pooled_h: {pooled[0]} pooled_w: {pooled[1]} spatial_scale: 0.5 pad_ratio: {pad_ratio}"
    layer = make_layer(ROIPooling, f"roi_pooling_param {{ {text} }}", FEATURES, (len(ROIS), 5), device=device)
    features, rois = noise(*FEATURES, device=device), tensor(ROIS, device)
    (top,) = run(layer, features, rois)
    expected = by_definition(features.detach().cpu().numpy(), np.array(ROIS), pooled, 0.5, pad_ratio)
    assert np.array_equal(top.detach().cpu().numpy(), expected)


@pytest.mark.parametrize(
    ("images", "height", "width", "pooled"),
    [(1, 1, 1, (2, 2)), (2, 17, 8, (3, 2)), (1, 6, 33, (1, 7))],
)
def test_onnx(images: int, height: int, width: int, pooled: tuple[int, int]) -> None:
    """The ONNX form's windows are the definition's bins of all sizes: regions far outside, and turned inside out."""
    generator = np.random.default_rng(height)
    features = generator.standard_normal((images, 2, height, width)).astype(np.float32)
    features[features > 1] = np.inf
    corners = generator.integers(-8 * max(height, width), 16 * max(height, width), (40, 4)) * 2  # and their halves
    rois = np.column_stack((generator.integers(0, images, 40), corners)).astype(np.float32)
    fields = f"pooled_h: {pooled[0]} pooled_w: {pooled[1]} spatial_scale: 0.0625 pad_ratio: 0.25"
    kind = f'type: "ROIPooling" roi_pooling_param {{ {fields} }}'
    layer = f'layer {{ name: "p" bottom: "x" bottom: "r" top: "y" {kind} }}'
    model = to_onnx(net_of(layer, x=features.shape, r=rois.shape))
    assert "MaxRoiPool" not in {node.op_type for node in model.graph.node}  # which OpenCV and TensorRT do not read
    (found,) = run_model(model, {"x": features, "r": rois}).values()
    assert np.array_equal(found, by_definition(features, rois, pooled, 0.0625, 0.25))


def test_equals_opencv() -> None:
    layer, bottoms, expected = opencv_case(ROIPooling, "roi_pooling")
    assert torch.equal(run(layer, *bottoms)[0], expected)


@on_devices
def test_gradient(device: str) -> None:
    layer = make_layer(
        ROIPooling, "roi_pooling_param { pooled_h: 3 pooled_w: 2 spatial_scale: 0.5 }", FEATURES, (7, 5), device=device
    )
    rois = tensor(ROIS, device)
    assert torch.autograd.gradcheck(
        lambda features: layer(features, rois), noise(*FEATURES, device=device), fast_mode=True
    )
    top = layer(noise(*FEATURES, device=device), rois)
    (none,) = torch.autograd.grad(top.sum(), rois, allow_unused=True)
    assert none is None


@pytest.mark.parametrize("compiled", [False, True])
def test_of_equal_values_the_first_takes_the_gradient(compiled: bool) -> None:
    layer = make_layer(ROIPooling, "roi_pooling_param { pooled_h: 1 pooled_w: 1 }", (1, 1, 3, 3), (1, 5))
    features = torch.zeros(1, 1, 3, 3, dtype=torch.float64, requires_grad=True)
    run_it = torch.compile(layer, backend="aot_eager") if compiled else layer
    (found,) = torch.autograd.grad(run_it(features, tensor([[0, 1, 1, 2, 2]])).sum(), features)
    assert found.flatten().tolist() == [0, 0, 0, 0, 1, 0, 0, 0, 0]
    torch.compiler.reset()


def test_bins_of_57_pixels_are_rounded_as_in_float32() -> None:
    # 57 / 7 in float32, times 7, is a little more than 57: the last bin ends one pixel later than 57.
    layer = make_layer(ROIPooling, "roi_pooling_param { pooled_h: 1 pooled_w: 7 }", (1, 1, 1, 60), (1, 5)).float()
    features = torch.arange(60.0).view(1, 1, 1, 60)
    rois = torch.tensor([[0.0, 0, 0, 56, 0]])
    part = np.float32(57) / np.float32(7)
    ends = np.ceil(np.arange(1, 8, dtype=np.float32) * part)
    assert ends[-1] == 58
    assert layer(features, rois).flatten().tolist() == (ends - 1).tolist()


def test_no_regions() -> None:
    layer = make_layer(ROIPooling, "roi_pooling_param { pooled_h: 2 pooled_w: 2 }", FEATURES, (1, 5))
    assert layer(noise(*FEATURES), torch.empty(0, 5, dtype=torch.float64)).shape == (0, 3, 2, 2)


def test_refuses_an_image_that_is_not_there() -> None:
    layer = make_layer(ROIPooling, "roi_pooling_param { pooled_h: 2 pooled_w: 2 }", FEATURES, (1, 5))
    with pytest.raises(NetError, match="a region's image is 2 to 2; expected 0 to 1"):
        layer(noise(*FEATURES), tensor([[2, 0, 0, 1, 1]]))


@pytest.mark.parametrize(
    ("fields", "shapes", "message"),
    [
        ("pooled_h: 2", (FEATURES, (1, 5)), r"pooled_h and pooled_w are \(2, 0\); expected at least 1 each"),
        ("pooled_h: 2 pooled_w: 2", (FEATURES, (1, 4)), r"bottom 1 has shape \(1, 4\); expected \(R, 5\)"),
        ("pooled_h: 2 pooled_w: 2", ((2, 3), (1, 5)), r"bottom 0 has shape \(2, 3\); expected \(N, C, H, W\)"),
        ("pooled_size: 2", (FEATURES, (1, 5)), "pooled_size: ROIPooling here does not read it"),
    ],
)
def test_refusals(fields: str, shapes: tuple[tuple[int, ...], ...], message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(ROIPooling, f"roi_pooling_param {{ {fields} }}", *shapes)
