import numpy as np
import pytest
import torch

from caffe_compat.errors import NetError
from caffe_compat.layers.base import Layer, Shape
from caffe_compat.layers.shared.aligned import align, aligned_example, aligned_shape, check_aligned
from caffe_compat.layers.shared.example import Dice
from caffe_compat.proto import caffe_pb2

BOTTOM = (2, 3, 4, 5)
LAYER = Layer(caffe_pb2.LayerParameter(name="it"))


@pytest.mark.parametrize(
    ("axis", "num_axes", "shape"),
    [
        (1, 1, (3,)),
        (0, 2, (2, 3)),
        (-1, 1, (5,)),
        (-2, -1, (4, 5)),
        (0, -1, BOTTOM),
        (2, 0, ()),
    ],
)
def test_aligned_shape(axis: int, num_axes: int, shape: Shape) -> None:
    assert aligned_shape(LAYER, BOTTOM, axis, num_axes, "scale_param") == shape


@pytest.mark.parametrize(
    ("axis", "num_axes", "message"),
    [
        (4, 1, r"scale_param\.axis is 4; expected -4 to 3"),
        (2, 3, r"scale_param\.num_axes is 3; bottom \(2, 3, 4, 5\) has 2 from axis 2 on"),
        (0, -2, r"scale_param\.num_axes is -2; expected at least 0, or -1"),
    ],
)
def test_aligned_shape_refuses(axis: int, num_axes: int, message: str) -> None:
    with pytest.raises(NetError, match=message):
        aligned_shape(LAYER, BOTTOM, axis, num_axes, "scale_param")


def test_check_aligned() -> None:
    check_aligned(LAYER, BOTTOM, (3, 4), 1, "bias_param")
    check_aligned(LAYER, BOTTOM, (4, 5), -2, "bias_param")
    check_aligned(LAYER, BOTTOM, (), 9, "bias_param")  # a single number fits anywhere
    for blob, axis in (((3, 5), 1), ((5, 6), 3), ((3,), 0)):
        with pytest.raises(
            NetError, match=rf"a blob of shape .* does not fit bottom \(2, 3, 4, 5\) from axis {axis} on"
        ):
            check_aligned(LAYER, BOTTOM, blob, axis, "bias_param")


@pytest.mark.parametrize(("blob", "axis"), [((3,), 1), ((2, 3), 0), ((4, 5), -2), ((3, 4), 1), (BOTTOM, 0), ((), 0)])
def test_align_broadcasts_over_the_other_axes(blob: Shape, axis: int) -> None:
    values = torch.arange(float(np.prod(blob, dtype=int))).reshape(blob)
    bottom = torch.zeros(BOTTOM)
    found = (bottom + align(values, bottom, axis)).numpy()
    first = axis % 4
    for place in np.ndindex(BOTTOM):
        assert found[place] == values[place[first : first + len(blob)]]


def test_examples_fit_their_bottom() -> None:
    for number in range(50):
        example = aligned_example(Dice("Scale", number), "scale_param", "bias_term: true")
        assert example.fields.startswith("scale_param { axis: ")
        assert "bias_term: true" in example.fields
        axis = int(example.fields.split()[3])
        if len(example.bottoms) == 2:
            check_aligned(LAYER, example.bottoms[0].shape, example.bottoms[1].shape, axis, "scale_param")
