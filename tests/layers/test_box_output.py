import numpy as np
import pytest
import torch

from caffe_compat.errors import NetError
from caffe_compat.layers.box_output import BoxOutput
from tests.layers.harness import make_layer, on_devices, run

SHAPES = ((2, 7, 3, 4), (2, 7, 2, 2))
FIELDS = "field_w: 20 field_w: 40 field_h: 24 field_h: 30 downsample_rate: 8 downsample_rate: 16 min_size: 10"
TOPS = 'top: "boxes" top: "scored"'


def by_definition(
    maps: list[np.ndarray], *, least: float, threshold: float, mode: str = "IOU", before: int = 0, after: int = 0
) -> np.ndarray:
    """MS-CNN's loop: image, x1, y1, x2, y2, score."""
    rows = []
    for image in range(len(maps[0])):
        found: list[tuple[float, list[float]]] = []
        for values, w0, h0, rate in zip(maps, (20, 40), (24, 30), (8, 16), strict=True):
            height, width = values.shape[2:]
            for row, column in np.ndindex(height, width):
                numbers = values[image, :, row, column]
                score = numbers[1:-4].max() - numbers[0]
                x, y = (min(max(v, -0.5), 0.5) for v in numbers[-4:-2])
                w, h = (np.exp(min(max(v, -np.log(2)), np.log(2))) for v in numbers[-2:])
                w, h = w * w0, h * h0
                x, y = max(x * w0 + (column + 0.5) * rate - w / 2, 0), max(y * h0 + (row + 0.5) * rate - h / 2, 0)
                w, h = min(w, width * rate - x), min(h, height * rate - y)
                if score >= least and w >= 10 and h >= 10:
                    found.append((score, [x, y, w, h]))
        found.sort(key=lambda pair: -pair[0])
        kept: list[tuple[float, list[float]]] = []
        for score, box in found[: before or None]:
            if all(overlap(other, box, mode) <= threshold for _, other in kept):
                kept.append((score, box))
        rows += [[image, x, y, x + w, y + h, score] for score, (x, y, w, h) in kept[: after or None]]
    return np.array(rows)


def overlap(a: list[float], b: list[float], mode: str) -> float:
    width, height = (min(a[i] + a[i + 2], b[i] + b[i + 2]) - max(a[i], b[i]) for i in (0, 1))
    shared = max(width, 0) * max(height, 0)
    first, second = a[2] * a[3], b[2] * b[3]
    return shared / {"IOU": first + second - shared, "IOMU": min(first, second), "IOFU": first}[mode]


def random_maps() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape) for shape in SHAPES]


@on_devices
@pytest.mark.parametrize(
    ("fields", "settings"),
    [
        ("", {"threshold": 0.5}),
        ('iou_thr: 0.6 nms_type: "IOMU"', {"threshold": 0.6, "mode": "IOMU"}),
        ('iou_thr: 0.3 nms_type: "IOFU"', {"threshold": 0.3, "mode": "IOFU"}),
        ("max_nms_num: 6 max_post_nms_num: 2", {"threshold": 0.5, "before": 6, "after": 2}),
    ],
)
def test_equals_the_definition(device: str, fields: str, settings: dict[str, float]) -> None:
    layer = make_layer(
        BoxOutput, f"{TOPS} box_output_param {{ {FIELDS} fg_thr: 0.5 {fields} }}", *SHAPES, device=device
    )
    maps = random_maps()
    boxes, scored = run(layer, *(torch.from_numpy(values).to(device) for values in maps))
    expected = by_definition(maps, least=0.5, **settings)  # type: ignore[arg-type]
    np.testing.assert_allclose(scored.cpu().numpy()[:, :, 0, 0], expected, rtol=1e-6)
    assert torch.equal(boxes, scored[:, :5])


def test_means_and_standard_deviations() -> None:
    maps = random_maps()
    numbers = " ".join(f"bbox_mean: {mean} bbox_std: 0.5" for mean in (0.125, 0, 0.25, 0))
    layer = make_layer(BoxOutput, f"{TOPS} box_output_param {{ {FIELDS} }} bbox_reg_param {{ {numbers} }}", *SHAPES)
    _, scored = run(layer, *map(torch.from_numpy, maps))
    moved = [values.copy() for values in maps]
    for values in moved:
        values[:, -4:] = values[:, -4:] * 0.5 + np.array([0.125, 0, 0.25, 0])[:, None, None]
    expected = by_definition(moved, least=0, threshold=0.5)
    np.testing.assert_allclose(scored.numpy()[:, :, 0, 0], expected, rtol=1e-6)


def test_without_a_box() -> None:
    layer = make_layer(BoxOutput, f"{TOPS} box_output_param {{ {FIELDS} fg_thr: 99 }}", *SHAPES)
    boxes, scored = run(layer, *map(torch.from_numpy, random_maps()))
    assert boxes.tolist() == [[[[0]], [[1]], [[1]], [[10]], [[10]]]]
    assert scored.tolist() == [[[[0]]] * 6]
    assert layer.infer_shapes(*SHAPES) == [(1, 5, 1, 1), (1, 6, 1, 1)]


def test_of_equal_scores_the_last_comes_first() -> None:
    layer = make_layer(
        BoxOutput, "box_output_param { field_w: 8 field_h: 8 downsample_rate: 16 min_size: 1 }", (1, 6, 1, 3)
    )
    assert run(layer, torch.zeros(1, 6, 1, 3))[0][:, 1, 0, 0].tolist() == [36, 20, 4]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("field_w: 20", r"has 2 bottoms, and field_w, field_h, downsample_rate \[1, 0, 0\] times; expected as many"),
        (f'{FIELDS} nms_type: "MAX"', 'nms_type is "MAX"; expected IOU, IOMU, IOFU'),
    ],
)
def test_refusals(fields: str, message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(BoxOutput, f"box_output_param {{ {fields} }}", *SHAPES)
