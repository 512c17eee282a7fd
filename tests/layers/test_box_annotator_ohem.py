import numpy as np
import pytest
import torch

from caffe_compat.errors import NetError
from caffe_compat.layers.box_annotator_ohem import BoxAnnotatorOHEM
from tests.layers.harness import check_layer, make_layer, on_devices, run

SHAPES = ((6, 5), (6, 1, 1, 1), (6, 1), (6, 2))
IMAGES = [0, 1, 0, 1, 0, 1]
LOSSES = [0.5, 0.1, 0.9, 0.1, 0.5, 0.3]
LABELS = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]


def bottoms(device: str = "cpu") -> list[torch.Tensor]:
    rois = np.column_stack((IMAGES, np.ones((6, 4))))
    values = [rois, np.reshape(LOSSES, SHAPES[1]), np.reshape(LABELS, (6, 1)), np.arange(1.0, 13).reshape(6, 2)]
    return [torch.tensor(value, dtype=torch.float64, device=device) for value in values]


@on_devices
def test_the_largest_losses_of_each_image_stay(device: str) -> None:
    layer = make_layer(BoxAnnotatorOHEM, "box_annotator_ohem_param { roi_per_img: 2 }", *SHAPES, device=device)
    labels, weights = run(layer, *bottoms(device))
    # image 0: 0.9, then the first 0.5; image 1: 0.3, then the first 0.1
    assert labels.shape == (6, 1, 1, 1)
    assert labels.flatten().tolist() == [1, 2, 3, -1, -1, 6]
    assert weights.shape == (6, 2, 1, 1)
    assert weights.reshape(6, 2).tolist() == [[1, 2], [3, 4], [5, 6], [0, 0], [0, 0], [11, 12]]


def test_places_and_ignore_label() -> None:
    """Maps of losses: each place is a region of its own, of the image that its region names."""
    rng = np.random.default_rng(0)
    rois, losses = rng.random((2, 5, 2, 3)), rng.random((2, 1, 2, 3))
    rois[:, 0] = rng.integers(0, 2, (2, 2, 3))
    labels, weights = rng.random((2, 1, 2, 3)), rng.random((2, 4, 2, 3))
    given = [torch.from_numpy(value) for value in (rois, losses, labels, weights)]
    fields = "box_annotator_ohem_param { roi_per_img: 3 ignore_label: 255 }"
    layer = make_layer(BoxAnnotatorOHEM, fields, *(tuple(bottom.shape) for bottom in given))
    kept = np.zeros((2, 2, 3), bool)
    for image in (0, 1):
        own = [(losses[n, 0, h, w], (n, h, w)) for (n, h, w), i in np.ndenumerate(rois[:, 0]) if i == image]
        for _, place in sorted(own, reverse=True)[:3]:
            kept[place] = True
    found = layer(*given)
    assert np.array_equal(found[0][:, 0].numpy(), np.where(kept, labels[:, 0], 255))
    assert np.array_equal(found[1].numpy(), weights * kept[:, None])


@on_devices
def test_layer(device: str) -> None:
    layer = make_layer(
        BoxAnnotatorOHEM, 'top: "a" top: "b" box_annotator_ohem_param { roi_per_img: 1 }', *SHAPES, device=device
    )
    check_layer(layer, *bottoms(device), differentiable=False)


def test_refusals() -> None:
    with pytest.raises(NetError, match="roi_per_img is missing or 0"):
        make_layer(BoxAnnotatorOHEM, "", *SHAPES)
    for shapes, message in (
        (((6, 4), *SHAPES[1:]), r"regions have shape \(6, 4\)"),
        ((SHAPES[0], (5, 1), *SHAPES[2:]), r"losses have shape \(5, 1\)"),
    ):
        with pytest.raises(NetError, match=message):
            make_layer(BoxAnnotatorOHEM, "box_annotator_ohem_param { roi_per_img: 1 }", *shapes)
