import numpy as np
import pytest
import torch

from caffe_compat.errors import NetError
from caffe_compat.layers.frcnn_proposal import ANCHORS, FrcnnProposal
from tests.layers.harness import make_layer, on_devices, run
from tests.layers.test_proposal import overlap

OWN = ((-8.0, -4.0, 23.0, 19.0), (-20.0, -20.0, 35.0, 35.0), (0.0, -3.0, 9.0, 19.0))
SHAPES = ((1, 6, 4, 5), (1, 12, 4, 5), (1, 3))
INFO = np.array([[60.0, 70.0, 1.5]])


def by_definition(
    scores: np.ndarray, offsets: np.ndarray, *, least: float, before: int, after: int, threshold: float
) -> list[list[float]]:
    """The fork's loop over cells and anchors: image (0), x1, y1, x2, y2, score; small boxes are left out."""
    found = []
    height, width, scale = INFO[0]
    for y, x in np.ndindex(*scores.shape[2:]):
        for k, anchor in enumerate(np.array(OWN)):
            left, up, right, down = anchor + np.array([x, y, x, y]) * 16
            w, h = right - left + 1, down - up + 1
            dx, dy, dw, dh = offsets[0, 4 * k : 4 * k + 4, y, x]
            center_x, center_y, w, h = left + w / 2 + dx * w, up + h / 2 + dy * h, w * np.exp(dw), h * np.exp(dh)
            box = np.array([center_x - w / 2, center_y - h / 2, center_x + w / 2, center_y + h / 2])
            box = box.clip(0, [width - 1, height - 1, width - 1, height - 1])
            if min(box[2] - box[0], box[3] - box[1]) + 1 >= least * scale:
                found.append((scores[0, 3 + k, y, x], box))
    kept: list[tuple[float, np.ndarray]] = []
    for score, box in sorted(found, key=lambda pair: -pair[0])[:before]:
        if len(kept) < after and all(overlap(box, other) <= threshold for _, other in kept):
            kept.append((score, box))
    return [[0, *box, score] for score, box in kept]


@on_devices
@pytest.mark.parametrize(("before", "after"), [(1000, 300), (12, 4)])
def test_equals_the_definition(device: str, before: int, after: int) -> None:
    anchors = " ".join(f"anchors: {edge}" for anchor in OWN for edge in anchor)
    fields = f"{anchors} min_size: 12 pre_nms_topn: {before} post_nms_topn: {after} nms_thresh: 0.5"
    layer = make_layer(FrcnnProposal, f'top: "r" top: "s" proposal_param {{ {fields} }}', *SHAPES, device=device)
    rng = np.random.default_rng(0)
    scores, offsets = rng.uniform(0, 1, SHAPES[0]), rng.standard_normal(SHAPES[1]) / 3
    rois, found = run(layer, *(torch.from_numpy(array).to(device) for array in (scores, offsets, INFO)))
    assert rois.shape[1:] == (5, 1, 1)
    assert found.shape[1:] == (1, 1, 1)
    rows = torch.cat((rois, found), 1)[:, :, 0, 0].cpu().numpy()
    expected = by_definition(scores, offsets, least=12, before=before, after=after, threshold=0.5)
    assert len(expected) > 3
    np.testing.assert_allclose(rows, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("phase", "limits"), [("TRAIN", (12000, 2000)), ("TEST", (6000, 300))])
def test_settings_of_the_forks_file(phase: str, limits: tuple[int, int]) -> None:
    with pytest.warns(UserWarning, match=r"anchors and limits of the fork's voc_config\.json"):
        layer = make_layer(FrcnnProposal, "", (1, 18, 2, 2), (1, 36, 2, 2), (1, 3), phase=phase)
    rule = layer.rule
    assert (rule.before, rule.after, rule.threshold, rule.least_size, rule.stride) == (*limits, 0.7, 16, 16)
    assert rule.anchors.tolist() == [list(anchor) for anchor in ANCHORS]
    assert layer.infer_shapes((1, 18, 2, 2), (1, 36, 2, 2), (1, 3)) == [(1, 5, 1, 1)]


@pytest.mark.parametrize(
    ("fields", "shapes", "message"),
    [
        ("ratio: 1 scale: 2", SHAPES, "ratio, scale: FrcnnProposal here does not read it"),
        ("anchors: 1 anchors: 2", SHAPES, "anchors are 2 numbers; expected four for each"),
        ("anchors: 0 anchors: 0 anchors: 9 anchors: 9", ((2, 2, 2, 2), (2, 4, 2, 2), (1, 3)), "expected one image"),
    ],
)
def test_refusals(fields: str, shapes: tuple[tuple[int, ...], ...], message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(FrcnnProposal, f"proposal_param {{ {fields} }}", *shapes)
