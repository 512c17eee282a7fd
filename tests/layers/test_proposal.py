import numpy as np
import pytest
import torch

from caffe_compat.errors import NetError
from caffe_compat.layers.proposal import Proposal
from tests.layers.harness import make_layer, on_devices, opencv_case, run

ANCHORS = "ratio: 0.5 ratio: 2 scale: 2 scale: 3"
SHAPES = ((2, 8, 3, 4), (2, 16, 3, 4), (1, 4))


def by_definition(
    scores: np.ndarray,
    offsets: np.ndarray,
    info: np.ndarray,
    *,
    least: float,
    before: int,
    after: int,
    threshold: float,
) -> list[list[float]]:
    """PVANET's layer, box by box: image, x1, y1, x2, y2, score."""
    rows = []
    height, width, scale_y, scale_x = info
    for image in range(len(scores)):
        found = []
        for y, x in np.ndindex(*scores.shape[2:]):
            for k, (w, h) in enumerate(((46, 24), (69, 36), (22, 44), (33, 66))):  # of 23 by 12 and 11 by 22
                dx, dy, dw, dh = offsets[image, 4 * k : 4 * k + 4, y, x]
                center_x, center_y = 16 * x + 7.5 + 0.5 + dx * w, 16 * y + 7.5 + 0.5 + dy * h
                w, h = np.exp(dw) * w, np.exp(dh) * h
                box = np.array([center_x - w / 2, center_y - h / 2, center_x + w / 2, center_y + h / 2])
                box = box.clip(0, [width - 1, height - 1, width - 1, height - 1])
                large = box[2] - box[0] + 1 >= least * scale_x and box[3] - box[1] + 1 >= least * scale_y
                found.append((scores[image, 4 + k, y, x] * large, box))
        kept: list[tuple[float, np.ndarray]] = []
        for score, box in sorted(found, key=lambda pair: -pair[0])[:before]:
            if len(kept) < after and all(overlap(box, other) <= threshold for _, other in kept):
                kept.append((score, box))
        rows += [[image, *box, score] for score, box in kept]
    return rows


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width < 0 or height < 0:
        return 0.0
    shared = (width + 1) * (height + 1)
    return float(shared / (sum((box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in (a, b)) - shared))


def bottoms() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.uniform(0, 1, SHAPES[0]), rng.standard_normal(SHAPES[1]) / 3, np.array([[48, 64, 1.5, 1.25]])


@on_devices
@pytest.mark.parametrize(("before", "after"), [(100, 300), (20, 6)])
def test_equals_the_definition(device: str, before: int, after: int) -> None:
    fields = f"min_size: 20 {ANCHORS} pre_nms_topn: {before} post_nms_topn: {after} nms_thresh: 0.5"
    layer = make_layer(Proposal, f'top: "rois" top: "scores" proposal_param {{ {fields} }}', *SHAPES, device=device)
    arrays = bottoms()
    rois, scores = run(layer, *(torch.from_numpy(array).to(device) for array in arrays))
    found = torch.cat((rois, scores.unsqueeze(1)), 1).cpu().numpy()
    expected = by_definition(arrays[0], arrays[1], arrays[2][0], least=20, before=before, after=after, threshold=0.5)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_equals_opencv() -> None:
    layer, given, expected = opencv_case(Proposal, "proposal")
    torch.testing.assert_close(run(layer, *given)[0], expected, rtol=0, atol=1e-4)


def test_one_scale_is_for_height_and_width() -> None:
    fields = f"min_size: 20 {ANCHORS} nms_thresh: 0.5"
    scores, offsets, info = (torch.from_numpy(array) for array in bottoms())
    layer = make_layer(Proposal, f"proposal_param {{ {fields} }}", *SHAPES)
    four, three = torch.tensor([[48, 64, 1.5, 1.5]]), torch.tensor([[48, 64, 1.5]])
    assert torch.equal(layer(scores, offsets, three.double()), layer(scores, offsets, four.double()))
    assert not torch.equal(layer(scores, offsets, info), layer(scores, offsets, four.double()))


def test_more_than_four_values_are_not_read() -> None:
    # PVANET's older nets have six.
    layer = make_layer(Proposal, f"proposal_param {{ min_size: 20 {ANCHORS} nms_thresh: 0.5 }}", *SHAPES[:2], (1, 6))
    arrays = bottoms()
    six = np.concatenate((arrays[2], [[7.0, 9.0]]), 1)
    rois = run(layer, *(torch.from_numpy(array) for array in (*arrays[:2], six)))[0]
    expected = by_definition(arrays[0], arrays[1], arrays[2][0], least=20, before=6000, after=300, threshold=0.5)
    np.testing.assert_allclose(rois.numpy(), [row[:5] for row in expected], rtol=1e-9, atol=1e-12)


def test_each_image_may_have_its_own_size() -> None:
    fields = f"min_size: 1 {ANCHORS}"
    layer = make_layer(Proposal, f"proposal_param {{ {fields} }}", *SHAPES[:2], (2, 4))
    scores, offsets, _ = (torch.from_numpy(array) for array in bottoms())
    rois = layer(scores, offsets, torch.tensor([[48.0, 64, 1, 1], [20, 30, 1, 1]]).double())
    assert rois[rois[:, 0] == 0][:, 3].max() > 29
    assert rois[rois[:, 0] == 1][:, [3, 4]].amax(0).tolist() == [29, 19]


def test_shapes_before_the_data_is_known() -> None:
    layer = make_layer(Proposal, f'top: "r" top: "s" proposal_param {{ {ANCHORS} post_nms_topn: 7 }}', *SHAPES)
    assert layer.infer_shapes(*SHAPES) == [(14, 5), (14,)]


@pytest.mark.parametrize(
    ("fields", "shapes", "message"),
    [
        ("ratio: 1", SHAPES, r"ratio is \[1.0\] and scale \[\]; expected at least one of each"),
        ("ratio: 1 scale: 2", SHAPES, r"expected \(N, 2, H, W\) scores and \(N, 4, H, W\) offsets for 1 anchors"),
        (ANCHORS, (*SHAPES[:2], (1, 2)), r"bottom 2 has shape \(1, 2\); expected"),
    ],
)
def test_refusals(fields: str, shapes: tuple[tuple[int, ...], ...], message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(Proposal, f"proposal_param {{ {fields} }}", *shapes)
