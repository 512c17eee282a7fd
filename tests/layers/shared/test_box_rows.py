import numpy as np
import pytest
import torch

from caffe_compat.errors import NetError
from caffe_compat.layers.decode_bbox import DecodeBBox
from caffe_compat.layers.shared.box_rows import box_tops, overlap_part, read_mode, read_normalisation
from tests.layers.harness import make_layer


def layer(fields: str = "") -> DecodeBBox:
    return make_layer(DecodeBBox, fields, (1, 8), (1, 5))


def test_modes() -> None:
    # Boxes of areas 4 and 6 that share 2.
    first, second = np.array([[0, 0, 0, 0, 4.0]]).T, np.array([[0, 0, 0, 0, 6.0]]).T
    for mode, expected in (("IOU", 2 / 8), ("IOMU", 2 / 4), ("IOFU", 2 / 4)):
        assert overlap_part(np.array([2.0]), first, second, mode) == expected
        assert read_mode(layer(), mode) == mode
    assert overlap_part(np.array([2.0]), second, first, "IOFU") == 2 / 6
    with pytest.raises(NetError, match='nms_type is "iou"; expected IOU, IOMU, IOFU'):
        read_mode(layer(), "iou")


def test_normalisation() -> None:
    assert read_normalisation(layer()) == ([0] * 4, [1] * 4)
    numbers = " ".join(f"bbox_mean: {i} bbox_std: {i + 1}" for i in range(4))
    assert read_normalisation(layer(f"bbox_reg_param {{ {numbers} }}")) == ([0, 1, 2, 3], [1, 2, 3, 4])
    with pytest.raises(NetError, match="expected 4 each, std above 0"):
        layer("bbox_reg_param { bbox_mean: 0 bbox_std: 1 }")


def test_tops() -> None:
    like = torch.zeros(1)
    rows = [np.arange(6.0)[None], np.empty((0, 6))]
    regions, scored = box_tops(rows, 2, like)
    assert (regions.shape, scored.shape) == ((1, 5, 1, 1), (1, 6, 1, 1))
    assert (regions.flatten().tolist(), scored.flatten().tolist()) == ([0, 1, 2, 3, 4], [0, 1, 2, 3, 4, 5])
    assert regions.dtype == torch.float32
    regions, scored = box_tops([np.empty((0, 6))], 2, like)
    assert (regions.flatten().tolist(), scored.flatten().tolist()) == ([0, 1, 1, 10, 10], [0] * 6)
    assert len(box_tops(rows, 1, like)) == 1
