import numpy as np
import pytest
import torch

from caffe_compat.errors import NetError
from caffe_compat.layers.detection_output import DetectionOutput
from tests.layers.harness import make_layer, on_devices, opencv_case, run

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
        ("num_classes: 2 biases: 1", "biases: .* does not read it; it is of another layer of this name, of YOLO"),
        ("num_classes: 2 normalized_bbox: false", "expected boxes in parts of the image"),
    ],
)
def test_refusals(fields: str, message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(DetectionOutput, f"detection_output_param {{ {fields} }}", (1, 4), (1, 2), (1, 2, 4))


def test_refuses_bottoms_of_others() -> None:
    with pytest.raises(NetError, match=r"has 1 bottom.*; for YOLO's layer of this name.* use YoloDetectionOutput"):
        make_layer(DetectionOutput, "detection_output_param { num_classes: 2 }", (1, 4))
    with pytest.raises(NetError, match="for TextBoxes, whose boxes come twice, add additional_y_offset: true"):
        make_layer(DetectionOutput, "detection_output_param { num_classes: 2 }", (1, 8), (1, 4), (1, 2, 4))


def test_what_is_not_done_is_said() -> None:
    for fields, message in (
        ('save_output_param { output_directory: "results" }', "detections are not written to files"),
        ("visualize: true", "nothing is shown"),
    ):
        with pytest.warns(UserWarning, match=message):
            make_layer(
                DetectionOutput, f"detection_output_param {{ num_classes: 2 {fields} }}", (1, 4), (1, 2), (1, 2, 4)
            )
