import numpy as np
import pytest
import torch

from caffe_compat.errors import NetError
from caffe_compat.layers.yolo_detection_output import YoloDetectionOutput
from tests.layers.harness import make_layer, on_devices, run

BIASES = (1.0, 2.0, 0.5, 0.75)
FIELDS = "num_box: 2 num_classes: 3 " + " ".join(f"biases: {bias}" for bias in BIASES)
SHAPES = ((2, 16, 4, 4), (2, 16, 2, 2))


def by_definition(maps: list[np.ndarray], threshold: float, nms: float) -> list[list[float]]:
    """The fork's loops: image (always 0), label, score, edges."""
    found = []
    for values in maps:
        side = values.shape[3]
        for image, y, x, box in np.ndindex(len(values), side, side, 2):
            numbers = values[image, 8 * box : 8 * box + 8, y, x]
            classes = np.exp(numbers[5:]) / np.exp(numbers[5:]).sum()
            score = classes.max() / (1 + np.exp(-numbers[4]))
            center_x, center_y = (
                (place + 1 / (1 + np.exp(-v))) / side for place, v in ((x, numbers[0]), (y, numbers[1]))
            )
            w, h = np.exp(numbers[2]) * BIASES[2 * box] / side, np.exp(numbers[3]) * BIASES[2 * box + 1] / side
            if score >= threshold:
                found.append((score, int(classes.argmax()), [center_x, center_y, w, h]))
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
@pytest.mark.parametrize("bottoms", [1, 2])
@pytest.mark.parametrize(("threshold", "nms"), [(0.25, 0.25), (0.01, 0.75)])
def test_equals_the_definition(device: str, bottoms: int, threshold: float, nms: float) -> None:
    text = f"yolo_detection_output_param {{ {FIELDS} confidence_threshold: {threshold} nms_threshold: {nms} }}"
    layer = make_layer(YoloDetectionOutput, text, *SHAPES[:bottoms], device=device)
    rng = np.random.default_rng(0)
    maps = [rng.standard_normal(shape) for shape in SHAPES[:bottoms]]
    found = run(layer, *(torch.from_numpy(values).to(device) for values in maps))[0][0, 0].cpu().numpy()
    np.testing.assert_allclose(found, by_definition(maps, threshold, nms), rtol=1e-9, atol=1e-12)


def test_without_a_detection() -> None:
    layer = make_layer(
        YoloDetectionOutput, f"yolo_detection_output_param {{ {FIELDS} confidence_threshold: 2 }}", SHAPES[0]
    )
    rows = run(layer, torch.zeros(SHAPES[0]))[0][0, 0].tolist()
    assert rows == [[0, -1, -1, -1, -1, -1, -1], [1, -1, -1, -1, -1, -1, -1]]
    assert layer.infer_shapes(SHAPES[0]) == [(1, 1, 1, 7)]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("num_box: 3 biases: 1 biases: 2", "expected 6 biases for num_box 3"),
        (FIELDS.replace("num_classes: 3", "num_classes: 4"), r"expected \(N, 18, S, S\)"),
    ],
)
def test_refusals(fields: str, message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(YoloDetectionOutput, f"yolo_detection_output_param {{ {fields} }}", SHAPES[0])
