import numpy as np
import pytest
import torch

from caffe_compat.errors import NetError
from caffe_compat.layers.prior_box import PriorBox
from tests.layers.harness import check_layer, make_layer, noise, on_devices, opencv_case, run

FEATURES, IMAGE = (1, 2, 2, 3), (1, 3, 60, 80)


@pytest.mark.parametrize("name", ["prior_box", "prior_box_clip", "prior_box_steps"])
def test_equals_opencv(name: str) -> None:
    layer, bottoms, expected = opencv_case(PriorBox, name)
    torch.testing.assert_close(run(layer, *bottoms)[0], expected, rtol=0, atol=1e-7)


@on_devices
def test_layer(device: str) -> None:
    layer = make_layer(PriorBox, "prior_box_param { min_size: 20 max_size: 40 }", FEATURES, IMAGE, device=device)
    check_layer(layer, noise(*FEATURES, device=device), noise(*IMAGE, device=device), differentiable=False)


def boxes_and_variances(fields: str) -> tuple[np.ndarray, np.ndarray]:
    """(H, W, P, 4), each in pixels."""
    layer = make_layer(PriorBox, f"prior_box_param {{ {fields} }}", FEATURES, IMAGE)
    top = run(layer, noise(*FEATURES), noise(*IMAGE))[0].numpy().reshape(2, 2, 3, -1, 4)
    return top[0] * np.array([80, 60, 80, 60]), top[1]


def test_order_and_sizes_of_a_cells_boxes() -> None:
    # Sizes are cut to whole pixels, as in SSD; ratio 1 and the second 2 are there already.
    boxes, variances = boxes_and_variances(
        "min_size: 20.9 max_size: 45.7 aspect_ratio: 2 aspect_ratio: 1 aspect_ratio: 2"
    )
    sides = boxes[0, 0, :, 2:] - boxes[0, 0, :, :2]
    wide = 20 * np.sqrt(2), 20 / np.sqrt(2)
    np.testing.assert_allclose(sides, [(20, 20), (30, 30), wide, wide[::-1]], rtol=1e-6)
    np.testing.assert_allclose(variances, np.float32(0.1), rtol=1e-7)


def test_each_min_size_has_its_own_max_size() -> None:
    boxes, _ = boxes_and_variances("min_size: 10 min_size: 20 max_size: 40 max_size: 45 aspect_ratio: 4 flip: false")
    sides = boxes[0, 0, :, 2:] - boxes[0, 0, :, :2]
    np.testing.assert_allclose(sides, [(10, 10), (20, 20), (20, 5), (20, 20), (30, 30), (40, 10)], rtol=1e-6)


def test_textboxes_plus_plus_has_each_box_again_on_the_cells_lower_edge() -> None:
    fields = "min_size: 8 max_size: 18 aspect_ratio: 2 step: 16 offset: 0.25"
    plain, _ = boxes_and_variances(fields)
    boxes, _ = boxes_and_variances(f"{fields} denser_prior_boxes: true")
    np.testing.assert_allclose(boxes[:, :, 0::2], plain, rtol=1e-6)
    np.testing.assert_allclose(boxes[:, :, 1::2], plain + np.array([0, 12, 0, 12]), rtol=1e-6, atol=1e-5)


def test_faceboxes_has_more_boxes_of_its_least_sizes() -> None:
    boxes, _ = boxes_and_variances("min_size: 32 min_size: 64 min_size: 128 step: 32 dense_faces: true")
    expected = []
    for y, x in ((y, x) for y in (16, 48) for x in (16, 48, 80)):
        centers = [(32, x + j * 8, y + i * 8) for i in range(-2, 2) for j in range(-2, 2)]
        centers += [(64, x + j * 16, y + i * 16) for i in (-1, 0) for j in (-1, 0)]
        for size, a, b in [*centers, (128, x, y)]:
            half = (size - 1) / 2
            expected.append((a - half, b - half, a + half, b + half))
    np.testing.assert_allclose(boxes.reshape(-1, 4), expected, rtol=1e-6, atol=1e-5)


def test_faceboxes_other_boxes() -> None:
    boxes, _ = boxes_and_variances("min_size: 10 max_size: 40 aspect_ratio: 4 flip: false dense_faces: true")
    sides = boxes[0, 0, :, 2:] - boxes[0, 0, :, :2]
    np.testing.assert_allclose(sides, [(9, 9), (20, 20), (20, 5)], rtol=1e-6)


@pytest.mark.parametrize("fields", ["", "step: 16 offset: 0.25"])
def test_each_box_again_half_a_cell_lower(fields: str) -> None:
    plain, _ = boxes_and_variances(f"min_size: 8 max_size: 18 aspect_ratio: 2 flip: false {fields}")
    boxes, variances = boxes_and_variances(
        f"min_size: 8 max_size: 18 aspect_ratio: 2 flip: false additional_y_offset: true {fields}"
    )
    cell = 16 if fields else 30
    assert boxes.shape == variances.shape == (2, 3, 6, 4)
    np.testing.assert_allclose(boxes[:, :, 0::2], plain, rtol=1e-6)
    np.testing.assert_allclose(boxes[:, :, 1::2], plain + np.array([0, cell / 2, 0, cell / 2]), rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize(
    ("fields", "centers"),
    [
        ("", (40, 45)),  # the middle of the cell in row 1, column 1: cells of 80 / 3 by 30 pixels
        ("step: 16 offset: 0.25", (20, 20)),
        ("step_h: 10 step_w: 20", (30, 15)),
        ("img_size: 40", (40, 45)),  # edges over 40 and cells of 40 / 3 by 20, seen here in an image of 80 by 60
        ("img_h: 120 img_w: 40", (40, 45)),
    ],
)
def test_cells(fields: str, centers: tuple[float, float]) -> None:
    boxes, _ = boxes_and_variances(f"min_size: 8 {fields}")
    np.testing.assert_allclose((boxes[1, 1, 0, :2] + boxes[1, 1, 0, 2:]) / 2, centers, rtol=1e-6)


def test_sizes_follow_the_bottoms() -> None:
    layer = make_layer(PriorBox, "prior_box_param { min_size: 20 }", FEATURES, IMAGE)
    for cells in ((2, 3), (1, 1), (2, 3)):
        other = make_layer(PriorBox, "prior_box_param { min_size: 20 }", (1, 2, *cells), IMAGE)
        bottoms = noise(1, 2, *cells), noise(*IMAGE)
        assert torch.equal(layer(*bottoms), other(*bottoms))


def test_a_top_is_nobody_elses() -> None:
    layer = make_layer(PriorBox, "prior_box_param { min_size: 20 }", FEATURES, IMAGE)
    bottoms = noise(*FEATURES), noise(*IMAGE)
    first = layer(*bottoms)
    kept = first.clone()
    first.zero_()
    assert torch.equal(layer(*bottoms), kept)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("", "min_size is .*; expected at least one number above 0"),
        ("min_size: 5 max_size: 5", "max_size is .*; expected one above each min_size"),
        ("min_size: 5 max_size: 6 max_size: 7", "max_size is .*; expected one above each min_size"),
        ("min_size: 5 aspect_ratio: 0", "aspect_ratio is 0.0; expected a number above 0"),
        ("min_size: 5 variance: 1 variance: 2", "variance is .*; expected 1 or 4 numbers above 0"),
        ("min_size: 5 step: 4 step_h: 4", "has step and also step_h or step_w; remove one of them"),
        ("min_size: 5 img_h: 4", "img_size is .* as height and width; expected numbers above 0"),
        ("min_size: 5 width: 4", "width: PriorBox here does not read it"),
        ("min_size: 5 additional_y_offset: true denser_prior_boxes: true", "of TextBoxes, and denser_prior_boxes"),
        ("min_size: 32 min_size: 5 dense_faces: true", "has 17 boxes in a cell where FaceBoxes has room for 2"),
    ],
)
def test_refusals(fields: str, message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(PriorBox, f"prior_box_param {{ {fields} }}", FEATURES, IMAGE)
