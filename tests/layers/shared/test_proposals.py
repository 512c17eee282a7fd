import numpy as np
import pytest
import torch

from caffe_compat.layers.shared.proposals import ProposalRule, make_anchors, propose, round_half_up


def test_anchors_of_faster_rcnn() -> None:
    # The nine that its authors list, which start at pixel 1.
    listed = [
        *((-83, -39, 100, 56), (-175, -87, 192, 104), (-359, -183, 376, 200)),
        *((-55, -55, 72, 72), (-119, -119, 136, 136), (-247, -247, 264, 264)),
        *((-35, -79, 52, 96), (-79, -167, 96, 184), (-167, -343, 184, 360)),
    ]
    for rounding in (np.round, round_half_up):
        assert (make_anchors(16, [0.5, 1, 2], [8, 16, 32], rounding) + 1).tolist() == [
            [*map(float, box)] for box in listed
        ]


def test_halves() -> None:
    # 5 wide, 2.5 high
    assert make_anchors(5, [0.5], [1], lambda side: side).tolist()[0][1] != make_anchors(5, [0.5], [1]).tolist()[0][1]
    assert round_half_up(np.array([2.5, 3.5, 2.4])).tolist() == [3, 4, 2]
    assert np.round(np.array([2.5, 3.5, 2.4])).tolist() == [2, 4, 2]


@pytest.mark.parametrize("drop_small", [True, False])
def test_small_proposals(drop_small: bool) -> None:
    """Two cells with one anchor of 16 by 16; the second is clipped to 4 by 16 pixels."""
    rule = ProposalRule(
        anchors=make_anchors(16, [1], [1]),
        stride=16,
        least_size=8,
        before=-1,
        after=10,
        threshold=0.5,
        drop_small=drop_small,
    )
    scores = torch.tensor([[[[9.0, 9.0]], [[0.25, 0.75]]]])
    info = torch.tensor([[16.0, 20.0, 1.0]])
    rois, found = propose(scores, torch.zeros(1, 4, 1, 2), info, rule)
    expected = [[0, 0, 0, 15, 15]] + [] * drop_small
    kept = [[0, 0, 0, 16, 15.0]]
    assert rois[0].tolist() == kept[0]
    assert found.tolist() == ([0.25] if drop_small else [0.25, 0.0])
    assert len(rois) == len(expected) + (not drop_small)
    assert rois.dtype == torch.float32
