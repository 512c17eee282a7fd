"""Windows of images through a net."""

from pathlib import Path

import cv2
import numpy as np
import pytest

import caffe_compat.pycaffe as caffe
from caffe_compat.errors import DataError
from tests.pycaffe.image_nets import make_net


@pytest.fixture
def image(tmp_path: Path) -> str:
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[2:4, 4:6] = [0, 0, 255]  # a red patch
    path = tmp_path / "image.png"
    cv2.imwrite(str(path), pixels)
    return str(path)


def test_windows(tmp_path: Path, image: str) -> None:
    net = caffe.Detector(*make_net(tmp_path), raw_scale=2)
    windows = [np.array([2, 4, 4, 6]), np.array([0, 0, 4, 8]), np.array([5, 5, 8, 8])]
    found = net.detect_windows([(image, windows)])
    assert [item["window"].tolist() for item in found] == [window.tolist() for window in windows]
    assert [item["filename"] for item in found] == [image] * 3
    assert found[0]["prediction"].ravel().tolist() == [2, 0, 0]
    assert found[2]["prediction"].ravel().tolist() == [0, 0, 0]
    assert net.detect_windows([(image, [])]) == []


def test_context_around_a_window(tmp_path: Path) -> None:
    net = caffe.Detector(
        *make_net(tmp_path, 8), mean=np.array([8.0, 16.0, 32.0]), raw_scale=2, channel_swap=(2, 1, 0), context_pad=2
    )
    assert net.crop_mean[0, 0].tolist() == [16, 8, 4], "the mean as an image's values: RGB, unscaled"
    # A window of 4 x 4 becomes a box of 8 x 8, of which the first 2 rows and columns lie outside: context.
    ramp = np.tile(np.arange(20.0)[:, None, None], (1, 20, 3)).astype(np.float32)
    crop = net.crop(ramp, np.array([0, 0, 3, 3]))
    assert crop.shape == (8, 8, 3)
    assert (crop[:2] == [16, 8, 4]).all()
    assert (crop[:, :2] == [16, 8, 4]).all()
    inner = crop[2:, 2:, 0]
    assert (np.diff(inner[1:-1], axis=0) > 0).all(), "the rest is the image"
    assert net.crop(ramp, np.array([6, 6, 9, 9])).shape == (8, 8, 3)


def test_what_cannot_be_done(tmp_path: Path, image: str) -> None:
    net = caffe.Detector(*make_net(tmp_path, 8), context_pad=2)
    with pytest.raises(DataError, match="needs the package selective_search_ijcv_with_python"):
        net.detect_selective_search([image])
    with pytest.raises(DataError, match=r"window \(30, 30, 40, 40\) lies outside an image of 8 x 8"):
        net.crop(np.zeros((8, 8, 3), np.float32), [30, 30, 40, 40])
