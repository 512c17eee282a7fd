import numpy as np
import pytest
import torch

from caffe_compat.errors import NetError
from caffe_compat.layers.roi_pooling import ROIPooling
from caffe_compat.layers.shared.example import Dice
from caffe_compat.layers.shared.rois import Bins, check_rois, images_of, random_rois, round_half_away
from tests.layers.harness import make_layer


def layer() -> ROIPooling:
    return make_layer(ROIPooling, "roi_pooling_param { pooled_h: 1 pooled_w: 1 }", (1, 1, 2, 2), (1, 5))


def test_round_half_away() -> None:
    values = torch.tensor([0.5, 1.5, 2.5, -0.5, -1.5, 0.49999997, -2.4, 3.0, 8388609.0])
    assert round_half_away(values).tolist() == [1, 2, 3, -1, -2, 0, -2, 3, 8388609]


def test_pixels_of_bins() -> None:
    # One region of 1 by 2 bins on 3 by 4 pixels: rows 1 to 2; columns 0 to 1, and 3 up to outside; another without any.
    rows = torch.tensor([[1.0], [2]]), torch.tensor([[9.0], [2]])
    columns = torch.tensor([[-2.0, 3], [0, 0]]), torch.tensor([[2.0, 7], [4, 4]])
    bins, pixels, starts = Bins(rows, columns, 3, 4).pixels()
    assert pixels.tolist() == [4, 5, 8, 9, 7, 11]
    assert bins.tolist() == [0, 0, 0, 0, 1, 1]
    assert starts.tolist() == [0, 4, 6, 6]


def test_images() -> None:
    rois = torch.tensor([[1.0, 0, 0, 1, 1], [0, 0, 0, 1, 1]])
    assert images_of(layer(), rois, 2).tolist() == [1, 0]
    with pytest.raises(NetError, match="a region's image is 0 to 1; expected 0 to 0"):
        images_of(layer(), rois, 1)


def test_check_rois() -> None:
    check_rois(layer(), (1, 1, 2, 2), (3, 5, 1, 1))
    with pytest.raises(NetError, match=r"bottom 1 has shape \(3, 4\); expected \(R, 5\)"):
        check_rois(layer(), (1, 1, 2, 2), (3, 4))


def test_random_rois() -> None:
    rois = random_rois(Dice("ROIPooling", 3), (2, 1, 5, 6))
    assert rois.shape[1] == 5
    assert np.array_equal(rois, np.round(rois))
    assert set(rois[:, 0]) <= {0, 1}
    assert (rois[:, 3:] >= rois[:, 1:3]).all()
