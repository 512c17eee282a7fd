import numpy as np
import pytest
import torch

from caffe_compat.errors import NetError
from caffe_compat.layers.yolov3_detection_output import Yolov3DetectionOutput
from tests.layers.harness import make_layer, on_devices, run

ANCHORS = ((20, 30), (40, 10), (60, 60), (8, 12))
MASKS = ((2, 0), (1, 3))  # of the first bottom, of the second
SCALES = (32, 16)
SHAPES = ((2, 16, 2, 2), (2, 16, 4, 4))
FIELDS = (
    "num_box: 2 num_classes: 3 mask_group_num: 2 "
    + " ".join(f"biases: {width} biases: {height}" for width, height in ANCHORS)
    + " mask: 2 mask: 0 mask: 1 mask: 3 anchors_scale: 32 anchors_scale: 16"
)


def sigmoid(value: float) -> float:
    return float(1 / (1 + np.exp(-value)))


def by_definition(maps: list[np.ndarray], threshold: float, nms: float) -> list[list[float]]:
    """The fork's loops: image (always 0), label, score, edges."""
    found = []
    for values, mask, scale in zip(maps, MASKS, SCALES, strict=True):
        side = values.shape[3]
        for image, y, x, box in np.ndindex(len(values), side, side, 2):
            numbers = values[image, 8 * box : 8 * box + 8, y, x]
            width, height = ANCHORS[mask[box]]
            sides = np.exp(numbers[2]) * width / (side * scale), np.exp(numbers[3]) * height / (side * scale)
            center = (x + sigmoid(numbers[0])) / side, (y + sigmoid(numbers[1])) / side
            for label in range(3):
                score = sigmoid(numbers[5 + label]) * sigmoid(numbers[4])
                if score > threshold:
                    found.append((score, label, [*center, *sides]))
    kept: list[tuple[float, int, list[float]]] = []
    for score, label, box in sorted(found, key=lambda entry: -entry[0]):
        if all(overlap(other, box) < nms for _, _, other in kept):
            kept.append((score, label, box))
    return [[0, label + 1, score, x - w / 2, y - h / 2, x + w / 2, y + h / 2] for score, label, (x, y, w, h) in kept]


def overlap(a: list[float], b: list[float]) -> float:
    width, height = (
        min(a[i] + a[i + 2] / 2, b[i] + b[i + 2] / 2) - max(a[i] - a[i + 2] / 2, b[i] - b[i + 2] / 2) for i in (0, 1)
    )
    shared = max(width, 0) * max(height, 0)
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)


@on_devices
@pytest.mark.parametrize(("threshold", "nms"), [(0.25, 0.25), (0.01, 0.75)])
def test_equals_the_definition(device: str, threshold: float, nms: float) -> None:
    text = f"yolov3_detection_output_param {{ {FIELDS} confidence_threshold: {threshold} nms_threshold: {nms} }}"
    layer = make_layer(Yolov3DetectionOutput, text, *SHAPES, device=device)
    rng = np.random.default_rng(0)
    maps = [rng.standard_normal(shape) for shape in SHAPES]
    found = run(layer, *(torch.from_numpy(values).to(device) for values in maps))[0][0, 0].cpu().numpy()
    np.testing.assert_allclose(found, by_definition(maps, threshold, nms), rtol=1e-9, atol=1e-12)


def test_without_a_detection() -> None:
    text = f"yolov3_detection_output_param {{ {FIELDS} confidence_threshold: 2 }}"
    layer = make_layer(Yolov3DetectionOutput, text, *SHAPES)
    rows = run(layer, *(torch.zeros(shape) for shape in SHAPES))[0][0, 0].tolist()
    assert rows == [[0, -1, -1, -1, -1, -1, -1], [1, -1, -1, -1, -1, -1, -1]]
    assert layer.infer_shapes(*SHAPES) == [(1, 1, 1, 7)]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            FIELDS.replace("mask_group_num: 2", "mask_group_num: 1"),
            "has 2 bottoms, mask_group_num 1 and 2 anchors_scale",
        ),
        (FIELDS.replace("mask: 3", "mask: 4"), r"mask is \[2, 0, 1, 4\] with 8 biases; expected num_box 2 places"),
        (FIELDS.replace("num_classes: 3", "num_classes: 4"), r"expected \(N, 18, S, S\)"),
        (f"{FIELDS} gaussian_box: true", "boxes of Gaussian YOLO are not supported"),
    ],
)
def test_refusals(fields: str, message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(Yolov3DetectionOutput, f"yolov3_detection_output_param {{ {fields} }}", *SHAPES)
