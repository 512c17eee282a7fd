"""Images of any size through a net."""

from pathlib import Path

import numpy as np
import pytest

import caffe_compat.pycaffe as caffe
from tests.pycaffe.image_nets import make_net


def test_ten_crops_or_one(tmp_path: Path) -> None:
    net = caffe.Classifier(
        *make_net(tmp_path), image_dims=(4, 4), mean=np.array([1.0, 2.0, 3.0]), raw_scale=255, channel_swap=(2, 1, 0)
    )
    image = np.zeros((4, 4, 3), np.float32)
    image[0, 0] = [1, 0, 0]  # a red corner, in one of the four corner crops, and the mirrored one
    image[1, 1] = [0, 0, 0.4]  # in that corner and in the centre
    blue, red = 0.4 * 255 / 4, 255 / 4
    found = net.predict([image, image * 0])
    assert found.shape == (2, 3)
    assert found[0] == pytest.approx([blue * 4 / 10 - 1, -2, red * 2 / 10 - 3])
    assert found[1] == pytest.approx([-1, -2, -3])
    centre = net.predict([image], oversample=False)
    assert centre[0].ravel() == pytest.approx([blue - 1, -2, -3])


def test_the_input_is_the_size_unless_told(tmp_path: Path) -> None:
    net = caffe.Classifier(*make_net(tmp_path), input_scale=2)
    assert list(net.image_dims) == [2, 2]
    image = np.random.default_rng(1).random((5, 3, 3)).astype(np.float32)
    expected = 2 * caffe.io.resize_image(image, (2, 2)).mean((0, 1))
    assert net.predict([image], oversample=False)[0].ravel() == pytest.approx(expected)
    assert isinstance(net, caffe.Net)
