import pytest
import torch

from caffe_compat.errors import NetError
from caffe_compat.layers.shared.prior_boxes import PriorBoxLayer, Size
from tests.layers.harness import make_layer


class TwoBoxes(PriorBoxLayer):
    type = "PriorBox"  # type: ignore[assignment]

    def box_sizes(self) -> list[Size]:
        return [(2, 4), (6, 6)]


def test_boxes_are_ordered_by_row_column_and_size() -> None:
    layer = make_layer(TwoBoxes, "", (1, 1, 1, 2), (1, 3, 8, 16))
    top = layer(torch.zeros(1, 1, 1, 2), torch.zeros(1, 3, 8, 16))
    assert top.shape == (1, 2, 16)
    boxes = top[0, 0].view(2, 2, 4) * torch.tensor([16, 8, 16, 8])
    assert boxes.tolist() == [[[3, 2, 5, 6], [1, 1, 7, 7]], [[11, 2, 13, 6], [9, 1, 15, 7]]]


def test_edges_are_rounded_once() -> None:
    # 1 / 3 of an image of 3 pixels: in float64 exact to its last digit, in float32 its nearest.
    layer = make_layer(TwoBoxes, "prior_box_param { step: 1 }", (1, 1, 1, 1), (1, 1, 3, 3))
    for dtype in (torch.float32, torch.float64):
        top = layer(torch.zeros(1, 1, 1, 1, dtype=dtype), torch.zeros(1, 1, 3, 3, dtype=dtype))
        assert top[0, 0, 0].item() == torch.tensor(-0.5 / 3, dtype=dtype).item()


def test_refuses_other_axes() -> None:
    with pytest.raises(NetError, match=r"a bottom has shape \(1, 2\); expected \(N, C, H, W\)"):
        make_layer(TwoBoxes, "", (1, 1, 1, 1), (1, 2))
    with pytest.raises(TypeError, match="PriorBoxLayer lacks box_sizes"):
        make_layer(PriorBoxLayer, "", (1, 1, 1, 1), (1, 1, 3, 3))
