import itertools

import numpy as np
import pytest
import torch

from caffe_compat.errors import NetError
from caffe_compat.layers.detection_output import DetectionOutput
from tests.layers.harness import make_layer, on_devices, opencv_case, run
from tests.layers.onnx_form import check_onnx, numbers

IMAGES, PRIORS, CLASSES = 2, 30, 3


def by_definition(
    offsets: np.ndarray,
    scores: np.ndarray,
    priors: np.ndarray,
    *,
    threshold: float = -np.inf,
    top_k: int = -1,
    nms_threshold: float = 0.3,
    eta: float = 1.0,
    keep_top_k: int = -1,
) -> list[list[float]]:
    """SSD's rows, box by box: CENTER_SIZE, one box for all classes, background 0."""
    rows: list[list[float]] = []
    for image in range(len(offsets)):
        boxes = [decoded(*numbers) for numbers in zip(offsets[image], priors[0], priors[1], strict=True)]
        found = []
        for label in range(1, scores.shape[2]):
            order = [i for i in range(len(boxes)) if scores[image, i, label] > threshold]
            order = sorted(order, key=lambda i: -scores[image, i, label])  # stable
            kept: list[int] = []
            limit = nms_threshold
            for i in order[: top_k if top_k >= 0 else None]:
                if all(overlap(boxes[i], boxes[j]) <= limit for j in kept):
                    kept.append(i)
                    limit = limit * eta if eta < 1 and limit > 0.5 else limit
            found += [(label, i) for i in kept]
        if 0 <= keep_top_k < len(found):
            best = sorted(found, key=lambda pair: -scores[image, pair[1], pair[0]])[:keep_top_k]
            found = sorted(best, key=lambda pair: pair[0])
        rows += [[image, label, scores[image, i, label], *boxes[i]] for label, i in found]
    return rows or [[image, *[-1.0] * 6] for image in range(len(offsets))]


def decoded(offset: np.ndarray, prior: np.ndarray, variance: np.ndarray) -> list[float]:
    (center_x, center_y), (w, h) = (prior[:2] + prior[2:]) / 2, prior[2:] - prior[:2]
    dx, dy, dw, dh = offset * variance
    center_x, center_y, w, h = center_x + dx * w, center_y + dy * h, w * np.exp(dw), h * np.exp(dh)
    return [center_x - w / 2, center_y - h / 2, center_x + w / 2, center_y + h / 2]


def overlap(a: list[float], b: list[float]) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return width * height / (areas - width * height)


def bottoms(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Offsets (N, P, 4), scores (N, P, C), some of them equal, and priors (2, P, 4)."""
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 0.6, (PRIORS, 2))
    prior = np.concatenate((corner, corner + rng.uniform(0.2, 0.4, (PRIORS, 2))), 1)
    scores = rng.integers(0, 20, (IMAGES, PRIORS, CLASSES)) / 20
    return rng.standard_normal((IMAGES, PRIORS, 4)), scores, np.stack((prior, np.full(prior.shape, 0.1)))


def detect(fields: str, *arrays: np.ndarray, device: str = "cpu") -> list[list[float]]:
    offsets, scores, priors = arrays
    given = [offsets.reshape(IMAGES, -1), scores.reshape(IMAGES, -1), priors.reshape(1, 2, -1)]
    text = f"detection_output_param {{ num_classes: {CLASSES} code_type: CENTER_SIZE {fields} }}"
    layer = make_layer(DetectionOutput, text, *(array.shape for array in given), device=device)
    rows: list[list[float]] = run(layer, *(torch.from_numpy(array).to(device) for array in given))[0][0, 0].tolist()
    return rows


@on_devices
@pytest.mark.parametrize(
    ("fields", "settings"),
    [
        ("", {}),
        ("confidence_threshold: 0.5 nms_param { nms_threshold: 0.45 }", {"threshold": 0.5, "nms_threshold": 0.45}),
        ("nms_param { top_k: 7 } keep_top_k: 5", {"top_k": 7, "keep_top_k": 5}),
        ("nms_param { top_k: 0 }", {"top_k": 0}),
        # More are wanted than stay of the best candidates, which are tried first.
        ("nms_param { nms_threshold: 0 } keep_top_k: 9", {"nms_threshold": 0, "keep_top_k": 9}),
        ("nms_param { nms_threshold: 0 } keep_top_k: 3", {"nms_threshold": 0, "keep_top_k": 3}),
        ("nms_param { nms_threshold: 0.9 eta: 0.8 }", {"nms_threshold": 0.9, "eta": 0.8}),
        ("confidence_threshold: 0.97", {"threshold": 0.97}),
    ],
)
def test_equals_the_definition(device: str, fields: str, settings: dict[str, float]) -> None:
    arrays = bottoms()
    expected = by_definition(*arrays, **settings)  # type: ignore[arg-type]
    np.testing.assert_allclose(detect(fields, *arrays, device=device), expected, rtol=1e-12)


@pytest.mark.parametrize("name", ["detection_output", "detection_output_own_boxes"])
def test_equals_opencv(name: str) -> None:
    layer, given, expected = opencv_case(DetectionOutput, name)
    found, rows = run(layer, *given)[0][0, 0], expected[0, 0]
    rows = rows[rows.abs().sum(1) > 0]  # it fills up with zeros
    # OpenCV's rows of an image go by score, those of SSD by label first.
    order = np.lexsort((-rows[:, 2].numpy(), rows[:, 1].numpy(), rows[:, 0].numpy()))
    torch.testing.assert_close(found, rows[order], rtol=0, atol=1e-6)


def test_refinedet_moves_the_priors_first_and_looks_for_objects() -> None:
    offsets, scores, priors = bottoms()
    rng = np.random.default_rng(1)
    moves, objects = rng.standard_normal((IMAGES, PRIORS, 4)), rng.uniform(0, 1, (IMAGES, PRIORS, 2))
    text = f"num_classes: {CLASSES} code_type: CENTER_SIZE objectness_score: 0.4 confidence_threshold: 0.1"
    given = [offsets, scores, priors, objects, moves]
    shapes = [
        (IMAGES, PRIORS * 4),
        (IMAGES, PRIORS * CLASSES),
        (1, 2, PRIORS * 4),
        (IMAGES, PRIORS * 2),
        (IMAGES, PRIORS * 4),
    ]
    layer = make_layer(DetectionOutput, f"detection_output_param {{ {text} }}", *shapes)
    found = run(layer, *(torch.from_numpy(a.reshape(s)) for a, s in zip(given, shapes, strict=True)))[0][0, 0]
    expected = []
    for image in range(IMAGES):
        moved = [decoded(*numbers) for numbers in zip(moves[image], priors[0], priors[1], strict=True)]
        seen = np.where(objects[image, :, 1:] < 0.4, [[1.0, 0.0, 0.0]], scores[image])
        rows = by_definition(offsets[image : image + 1], seen[None], np.stack((moved, priors[1])), threshold=0.1)
        expected += [[image, *row[1:]] for row in rows]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)


def test_background_may_be_another_class_or_none() -> None:
    arrays = bottoms()
    assert {row[1] for row in detect("background_label_id: 1", *arrays)} == {0, 2}
    assert {row[1] for row in detect("background_label_id: -1", *arrays)} == {0, 1, 2}


@pytest.mark.parametrize(
    ("code_type", "encoded", "expected"),
    [
        ("CORNER", False, [0.2 + 0.1 * 1, 0.2 + 0.1 * 2, 0.6 + 0.2 * 3, 0.4 + 0.2 * 4]),
        ("CORNER", True, [1.2, 2.2, 3.6, 4.4]),
        ("CORNER_SIZE", False, [0.2 + 0.1 * 1 * 0.4, 0.2 + 0.1 * 2 * 0.2, 0.6 + 0.2 * 3 * 0.4, 0.4 + 0.2 * 4 * 0.2]),
    ],
)
def test_code_types(code_type: str, encoded: bool, expected: list[float]) -> None:
    text = f"num_classes: 2 code_type: {code_type} variance_encoded_in_target: {str(encoded).lower()}"
    layer = make_layer(DetectionOutput, f"detection_output_param {{ {text} }}", (1, 4), (1, 2), (1, 2, 4))
    priors = torch.tensor([[[0.2, 0.2, 0.6, 0.4], [0.1, 0.1, 0.2, 0.2]]], dtype=torch.float64)
    offsets, scores = (
        torch.tensor([[1.0, 2, 3, 4]], dtype=torch.float64),
        torch.tensor([[0.25, 0.75]], dtype=torch.float64),
    )
    assert run(layer, offsets, scores, priors)[0].flatten().tolist() == pytest.approx([0, 1, 0.75, *expected])


def test_a_compiled_net_may_have_it() -> None:
    layer, given, _ = opencv_case(DetectionOutput, "detection_output")
    compiled = torch.compile(layer, backend="aot_eager")
    assert torch.equal(compiled(*given), layer(*given))
    torch.compiler.reset()


def test_shape_before_the_data_is_known() -> None:
    layer = make_layer(DetectionOutput, "detection_output_param { num_classes: 2 }", (1, 4), (1, 2), (1, 2, 4))
    assert layer.infer_shapes((1, 4), (1, 2), (1, 2, 4)) == [(1, 1, 1, 7)]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("", "num_classes is not given, or 0"),
        ("num_classes: 2 nms_param { eta: 0 }", "nms_param.eta 0.0; expected"),
        ("num_classes: 3", r"expected \(N, 4\) offsets and \(N, 3\) scores for 1 priors and 3 classes"),
        (
            "num_classes: 2 biases: 1",
            "biases: .* does not read it; it is of YOLO v2's layer of this name, which has one bottom",
        ),
        ("num_classes: 2 normalized_bbox: false", "expected boxes in parts of the image"),
    ],
)
def test_refusals(fields: str, message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(DetectionOutput, f"detection_output_param {{ {fields} }}", (1, 4), (1, 2), (1, 2, 4))


def test_refuses_bottoms_of_others() -> None:
    with pytest.raises(NetError, match=r"has 2 bottom.*; expected 3 .*, 5 as in RefineDet, or 1 as in YOLO v2"):
        make_layer(DetectionOutput, "detection_output_param { num_classes: 2 }", (1, 4), (1, 2))
    with pytest.raises(NetError, match="for TextBoxes, whose boxes come twice, add additional_y_offset: true"):
        make_layer(DetectionOutput, "detection_output_param { num_classes: 2 }", (1, 8), (1, 4), (1, 2, 4))
    with pytest.raises(NetError, match=r"for FaceBoxes, which has more boxes .*, add dense_faces: true"):
        make_layer(DetectionOutput, "detection_output_param { num_classes: 2 }", (1, 28), (1, 14), (1, 2, 4))


ANCHORS = (1.0, 2.0, 0.5, 0.75)
REGIONS = "num_classes: 3 num_box: 2 side: 4 " + " ".join(f"biases: {bias}" for bias in ANCHORS)
MAPS = (1, 16, 4, 4)


def regions_by_definition(maps: np.ndarray, threshold: float, nms: float) -> list[list[float]]:
    """caffe-yolov2's loops: boxes suppress those behind them, whatever their scores."""
    found: list[list[float]] = []
    for y, x, box in np.ndindex(4, 4, 2):
        numbers = maps[0, 8 * box : 8 * box + 8, y, x]
        classes = np.exp(numbers[5:]) / np.exp(numbers[5:]).sum()
        score = classes.max() / (1 + np.exp(-numbers[4]))
        center = [(place + 1 / (1 + np.exp(-number))) / 4 for place, number in ((x, numbers[0]), (y, numbers[1]))]
        w, h = np.exp(numbers[2:4]) * ANCHORS[2 * box : 2 * box + 2] / 4
        if score >= threshold:
            found.append([0, int(classes.argmax()), score, *center, w, h])
    edges = [[x - w / 2, y - h / 2, x + w / 2, y + h / 2] for *_, x, y, w, h in found]
    gone: set[int] = set()
    for first, second in itertools.combinations(range(len(found)), 2):
        if first not in gone and overlap(edges[first], edges[second]) >= nms:
            gone.add(second)
    return [row for i, row in enumerate(found) if i not in gone]


@on_devices
@pytest.mark.parametrize(("threshold", "nms"), [(0.25, 0.25), (0.05, 0.4)])
def test_yolo_v2_has_a_layer_of_this_name(device: str, threshold: float, nms: float) -> None:
    text = f"detection_output_param {{ {REGIONS} confidence_threshold: {threshold} nms_threshold: {nms} }}"
    layer = make_layer(DetectionOutput, text, MAPS, device=device)
    maps = np.random.default_rng(0).standard_normal(MAPS)
    found = run(layer, torch.from_numpy(maps).to(device))[0][0, 0].cpu().numpy()
    expected = regions_by_definition(maps, threshold, nms)
    assert 2 < len(expected) < 32
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_yolo_v2_without_a_detection() -> None:
    layer = make_layer(DetectionOutput, f"detection_output_param {{ {REGIONS} confidence_threshold: 2 }}", MAPS)
    assert run(layer, torch.zeros(MAPS))[0].flatten().tolist() == [0, -1, -1, -1, -1, -1, -1]
    assert layer.infer_shapes(MAPS) == [(1, 1, 1, 7)]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("num_box: 3 biases: 1", "has 1 biases, .*; expected 6 biases for num_box 3"),
        (REGIONS.replace("side: 4", "side: 5"), r"bottom has shape \(1, 16, 4, 4\); expected \(1, 16, 5, 5\)"),
        (f"{REGIONS} keep_top_k: 5", "keep_top_k: .* does not read it; it is of SSD's layer of this name"),
    ],
)
def test_yolo_v2_refusals(fields: str, message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(DetectionOutput, f"detection_output_param {{ {fields} }}", MAPS)


@on_devices
def test_textboxes_plus_plus_tells_corners(device: str) -> None:
    rng = np.random.default_rng(3)
    _, scores, priors = bottoms()
    offsets = rng.standard_normal((IMAGES, PRIORS, 12))
    fields = "nms_param { nms_threshold: 0.4 } confidence_threshold: 0.3"
    found = np.array(detect(f"use_polygon: true {fields}", offsets, scores, priors, device=device))
    boxes = by_definition(offsets[..., :4], scores, priors, threshold=0.3, nms_threshold=0.4)
    np.testing.assert_allclose(found[:, :7], boxes, rtol=1e-6, atol=1e-6)
    for row in found:
        # Which prior it is, its box tells.
        image = int(row[0])
        (place,) = [i for i in range(PRIORS) if np.allclose(decoded(offsets[image, i, :4], *priors[:, i]), row[3:7])]
        x1, y1, x2, y2 = priors[0, place]
        w, h = 0.1 * (x2 - x1), 0.1 * (y2 - y1)
        corners = np.array([x1, y1, x2, y1, x2, y2, x1, y2]) + np.array([w, h] * 4) * offsets[image, place, 4:]
        np.testing.assert_allclose(row[7:], corners, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("fields", ["", "confidence_threshold: 2"])
def test_polygons_in_onnx(fields: str) -> None:
    _, scores, priors = (array.astype(np.float32) for array in bottoms())
    offsets = numbers(IMAGES, PRIORS * 12)
    layer = f"num_classes: {CLASSES} code_type: CENTER_SIZE use_polygon: true keep_top_k: 20 {fields}"
    given = offsets, scores.reshape(IMAGES, -1), priors.reshape(1, 2, -1)
    check_onnx(f'type: "DetectionOutput" detection_output_param {{ {layer} }}', *given)


def test_regions_in_onnx() -> None:
    _, scores, priors = (array.astype(np.float32) for array in bottoms())
    regions = np.concatenate((np.zeros((PRIORS, 1)), priors[0] * np.array([200, 100] * 2)), 1).astype(np.float32)
    layer = "share_location: false variance_encoded_in_target: true normalized: false input_width: 200"
    layer += f" input_height: 100 num_classes: {CLASSES} code_type: CENTER_SIZE keep_top_k: 20"
    given = numbers(1, PRIORS * CLASSES * 4), scores[:1].reshape(1, -1), regions.reshape(1, 1, -1)
    check_onnx(f'type: "DetectionOutput" detection_output_param {{ {layer} }}', *given)


def test_polygons_without_a_detection() -> None:
    _, scores, priors = bottoms()
    rows = detect("use_polygon: true confidence_threshold: 2", np.zeros((IMAGES, PRIORS, 12)), scores, priors)
    assert rows == [[image, *[-1.0] * 14] for image in range(IMAGES)]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("use_polygon: false", "turned boxes are not built in"),
        ("use_polygon: true code_type: CORNER", "expected code_type: CENTER_SIZE"),
        ("normalized: false", "expected three bottoms, variance_encoded_in_target: true, input_width"),
    ],
)
def test_refusals_of_other_forms(fields: str, message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(DetectionOutput, f"detection_output_param {{ num_classes: 2 {fields} }}", (1, 12), (1, 2), (1, 2, 4))


@on_devices
def test_regions_in_pixels_as_priors(device: str) -> None:
    offsets, scores, priors = bottoms()
    offsets, scores, edges, size = offsets[:1], scores[:1], priors[0], (200, 100)
    regions = np.concatenate((np.zeros((PRIORS, 1)), edges * np.array(size * 2)), 1)
    given = [offsets.reshape(1, -1), scores.reshape(1, -1), regions.reshape(1, 1, -1)]
    text = (
        f"detection_output_param {{ num_classes: {CLASSES} code_type: CENTER_SIZE variance_encoded_in_target: true "
        f"normalized: false input_width: {size[0]} input_height: {size[1]} nms_param {{ nms_threshold: 0.4 }} }}"
    )
    layer = make_layer(DetectionOutput, text, *(array.shape for array in given), device=device)
    found = run(layer, *(torch.from_numpy(array).to(device) for array in given))[0][0, 0].cpu().numpy()
    alone = np.stack((edges, np.ones_like(edges)))
    np.testing.assert_allclose(found, by_definition(offsets, scores, alone, nms_threshold=0.4), rtol=1e-6, atol=1e-6)


def test_what_is_not_done_is_said() -> None:
    for fields, message in (
        ('save_output_param { output_directory: "results" }', "detections are not written to files"),
        ("visualize: true", "nothing is shown"),
    ):
        with pytest.warns(UserWarning, match=message):
            make_layer(
                DetectionOutput, f"detection_output_param {{ num_classes: 2 {fields} }}", (1, 4), (1, 2), (1, 2, 4)
            )
