import numpy as np
import pytest
import torch

from caffe_compat.errors import NetError
from caffe_compat.layers.box_group_output import BoxGroupOutput
from tests.layers.harness import make_layer, on_devices, run

# Two images; two anchors on 3 by 4 cells of 8 pixels, one on 2 by 2 cells of 16.
SHAPES = ((4, 3, 3, 4), (4, 4, 3, 4), (2, 3, 2, 2), (2, 4, 2, 2))
ANCHORS = (((20, 24), (12, 30)), ((40, 30),))
STRIDES = (8, 16)
GROUPS = (
    "box_group_param { stride: 8 field_w: 20 field_h: 24 field_w: 12 field_h: 30 } "
    "box_group_param { stride: 16 field_w: 40 field_h: 30 } min_size: 10"
)
TOPS = 'top: "boxes" top: "scored"'


def by_definition(
    bottoms: list[np.ndarray], *, least: float, threshold: float, mode: str = "IOU", before: int = 0, after: int = 0
) -> np.ndarray:
    """Cascade R-CNN's loop: image, x1, y1, x2, y2, score."""
    rows = []
    for image in range(2):
        found: list[tuple[float, list[float]]] = []
        for pair, (anchors, stride) in enumerate(zip(ANCHORS, STRIDES, strict=True)):
            scores, offsets = bottoms[2 * pair : 2 * pair + 2]
            height, width = scores.shape[2:]
            for k, row, column in np.ndindex(len(anchors), height, width):
                item = image * len(anchors) + k
                numbers = offsets[item, :, row, column]
                x, y = (min(max(v, -0.5), 0.5) for v in numbers[:2])
                w, h = (np.exp(min(max(v, -np.log(2)), np.log(2))) for v in numbers[2:])
                w, h = w * anchors[k][0], h * anchors[k][1]
                x = x * anchors[k][0] + (column + 0.5) * stride - w / 2
                y = y * anchors[k][1] + (row + 0.5) * stride - h / 2
                box = [max(x, 0), max(y, 0), min(x + w - 1, width * stride), min(y + h - 1, height * stride)]
                score = 1 - scores[item, 0, row, column]
                if score >= least and box[2] - box[0] + 1 >= 10 and box[3] - box[1] + 1 >= 10:
                    found.append((score, box))
        found.sort(key=lambda pair: -pair[0])
        kept: list[tuple[float, list[float]]] = []
        for score, box in found[: before or None]:
            if all(overlap(other, box, mode) <= threshold for _, other in kept):
                kept.append((score, box))
        rows += [[image, *box, score] for score, box in kept[: after or None]]
    return np.array(rows)


def overlap(a: list[float], b: list[float], mode: str) -> float:
    width, height = (min(a[i + 2], b[i + 2]) - max(a[i], b[i]) for i in (0, 1))
    shared = 0 if width < 0 or height <= 0 else (width + 1) * (height + 1)
    first, second = ((box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in (a, b))
    return shared / {"IOU": first + second - shared, "IOMU": min(first, second), "IOFU": first}[mode]


def random_bottoms() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    bottoms = [rng.standard_normal(shape) for shape in SHAPES]
    for i in (0, 2):
        bottoms[i] = np.exp(bottoms[i]) / np.exp(bottoms[i]).sum(1, keepdims=True)
    return bottoms


@on_devices
@pytest.mark.parametrize(
    ("fields", "settings"),
    [
        ("", {"threshold": 0.5}),
        ('iou_thr: 0.6 nms_type: "IOMU"', {"threshold": 0.6, "mode": "IOMU"}),
        ('iou_thr: 0.3 nms_type: "IOFU"', {"threshold": 0.3, "mode": "IOFU"}),
        ("max_nms_num: 9 max_post_nms_num: 2", {"threshold": 0.5, "before": 9, "after": 2}),
    ],
)
def test_equals_the_definition(device: str, fields: str, settings: dict[str, float]) -> None:
    text = f"{TOPS} box_group_output_param {{ {GROUPS} fg_thr: 0.5 {fields} }}"
    layer = make_layer(BoxGroupOutput, text, *SHAPES, device=device)
    bottoms = random_bottoms()
    boxes, scored = run(layer, *(torch.from_numpy(values).to(device) for values in bottoms))
    expected = by_definition(bottoms, least=0.5, **settings)  # type: ignore[arg-type]
    np.testing.assert_allclose(scored.cpu().numpy()[:, :, 0, 0], expected, rtol=1e-6)
    assert torch.equal(boxes, scored[:, :5])


def test_means_and_standard_deviations() -> None:
    bottoms = random_bottoms()
    numbers = " ".join(f"bbox_mean: {mean} bbox_std: 0.5" for mean in (0.125, 0, 0.25, 0))
    layer = make_layer(
        BoxGroupOutput, f"{TOPS} box_group_output_param {{ {GROUPS} }} bbox_reg_param {{ {numbers} }}", *SHAPES
    )
    _, scored = run(layer, *map(torch.from_numpy, bottoms))
    for i in (1, 3):
        bottoms[i] = bottoms[i] * 0.5 + np.array([0.125, 0, 0.25, 0])[:, None, None]
    expected = by_definition(bottoms, least=0, threshold=0.5)
    np.testing.assert_allclose(scored.numpy()[:, :, 0, 0], expected, rtol=1e-6)


def test_boxes_that_share_one_row_share_nothing() -> None:
    # Two anchors of 9 by 9 pixels that touch with a row, and two that touch with a column.
    group = "box_group_param { stride: 8 field_w: 9 field_h: 9 } min_size: 1 iou_thr: 0.01"
    layer = make_layer(BoxGroupOutput, f"box_group_output_param {{ {group} }}", (1, 2, 2, 2), (1, 4, 2, 2))
    scores = torch.zeros(1, 2, 2, 2, dtype=torch.float64)
    offsets = torch.full((1, 4, 2, 2), 0.0, dtype=torch.float64)
    offsets[0, :2] = 0.5 / 9  # edges at whole pixels, 0 to 8 and 8 to 16
    rows = run(layer, scores, offsets)[0][:, 1:, 0, 0]
    assert rows.tolist() == [[0, 0, 8, 8], [0, 8, 8, 16]]


def test_without_a_box() -> None:
    layer = make_layer(BoxGroupOutput, f"{TOPS} box_group_output_param {{ {GROUPS} fg_thr: 2 }}", *SHAPES)
    boxes, scored = run(layer, *map(torch.from_numpy, random_bottoms()))
    assert boxes.flatten().tolist() == [0, 1, 1, 10, 10]
    assert scored.flatten().tolist() == [0] * 6
    assert layer.infer_shapes(*SHAPES) == [(1, 5, 1, 1), (1, 6, 1, 1)]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("box_group_param { stride: 8 field_w: 2 field_h: 2 }", "has 4 bottoms and 1 box_group_param; expected half"),
        ("box_group_param { stride: 8 } box_group_param { stride: 8 }", "not as many field_w as field_h, at least one"),
        (GROUPS.replace("field_w: 12 field_h: 30", ""), "4 images, 1 anchors"),
        (f'{GROUPS} nms_type: "MAX"', 'nms_type is "MAX"; expected IOU, IOMU, IOFU'),
    ],
)
def test_refusals(fields: str, message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(BoxGroupOutput, f"box_group_output_param {{ {fields} }}", *SHAPES)
