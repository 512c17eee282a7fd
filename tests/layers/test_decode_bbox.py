import numpy as np
import pytest
import torch

from caffe_compat.errors import NetError
from caffe_compat.layers.decode_bbox import DecodeBBox
from tests.layers.harness import make_layer, on_devices, run, tensor

ROIS: list[list[float]] = [[0, 10, 20, 25, 27], [1, 0, 0, 7, 3], [1, 4, 4, 4, 4]]
OFFSETS: list[list[float]] = [[9, 9, 9, 9, 0.25, 0.5, 0, 0], [9, 9, 9, 9, 0, 0, 1, -1], [9, 9, 9, 9, -0.5, 0.5, -2, -2]]


@on_devices
@pytest.mark.parametrize("with_means", [False, True])
def test_equals_the_definition(device: str, with_means: bool) -> None:
    means = (0.1, -0.1, 0.2, 0) if with_means else (0, 0, 0, 0)
    stds = (0.5, 0.5, 0.25, 0.25) if with_means else (1, 1, 1, 1)
    pairs = " ".join(f"bbox_mean: {mean} bbox_std: {std}" for mean, std in zip(means, stds, strict=True))
    fields = f"bbox_reg_param {{ {pairs} }}" if with_means else ""
    layer = make_layer(DecodeBBox, fields, (3, 8), (3, 5), device=device)
    expected = []
    for i, offset in enumerate(OFFSETS):
        image, x1, y1, x2, y2 = ROIS[i]
        x, y, w, h = (value * std + mean for value, std, mean in zip(offset[4:], stds, means, strict=True))
        width, height = x2 - x1 + 1, y2 - y1 + 1
        center_x, center_y = x * width + (x1 + x2) / 2, y * height + (y1 + y2) / 2
        width, height = width * np.exp(w), height * np.exp(h)
        left, above = center_x - (width - 1) / 2, center_y - (height - 1) / 2
        expected.append([image, left, above, left + width - 1, above + height - 1])
    (top,) = run(layer, tensor(OFFSETS, device), tensor(ROIS, device))
    assert not top.requires_grad
    np.testing.assert_allclose(top.cpu().numpy()[:, :, 0, 0], expected, rtol=1e-6)
    assert [tuple(top.shape)] == layer.infer_shapes((3, 8), (3, 5))


def test_training_leaves_out_what_is_turned_or_found_already() -> None:
    layer = make_layer(DecodeBBox, "", (3, 8), (3, 5), (3, 6), phase="TRAIN")
    assert layer.tops_depend_on_data
    # The third is less than a pixel wide, so that it is turned; the second overlaps too much.
    labelled = tensor([[0, 0, 0, 0, 0, 0.5], [0, 0, 0, 0, 0, 0.96], [0, 0, 0, 0, 0, 0]])
    assert run(layer, tensor(OFFSETS), tensor(ROIS), labelled)[0][:, 0, 0, 0].tolist() == [0]
    two = make_layer(DecodeBBox, "", (3, 8), (3, 5), phase="TRAIN")
    assert run(two, tensor(OFFSETS), tensor(ROIS))[0][:, 0, 0, 0].tolist() == [0, 1]
    assert torch.equal(run(two.eval(), tensor(OFFSETS), tensor(ROIS))[0][:, 0, 0, 0], tensor([0, 1, 1]))


@pytest.mark.parametrize(
    ("fields", "shapes", "message"),
    [
        ("", ((3, 4), (3, 5)), r"expected \(R, 8\) offsets and \(R, 5\) regions"),
        ("", ((3, 8), (2, 5)), r"expected \(R, 8\) offsets and \(R, 5\) regions"),
        ("", ((3, 8), (3, 5), (3, 6)), "has a third bottom, the labelled boxes, outside training"),
        ("bbox_reg_param { bbox_mean: 0 bbox_std: 1 }", ((3, 8), (3, 5)), "expected 4 each, std above 0"),
    ],
)
def test_refusals(fields: str, shapes: tuple[tuple[int, ...], ...], message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(DecodeBBox, fields, *shapes)
