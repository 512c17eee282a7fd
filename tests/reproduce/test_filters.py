"""Pictures of first-layer filters."""

import base64
from pathlib import Path

import cv2
import numpy as np

from caffe_compat.proto import parse_net, write_caffemodel
from reproduce.filters import first_filters, picture_of
from reproduce.treatments import base_half

NETWORK = base_half("0", "A")


def pixels(url: str) -> np.ndarray:
    data = base64.b64decode(url.removeprefix("data:image/png;base64,"))
    return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR))  # BGR


def test_a_pixel_for_each_weight_and_white_between_filters() -> None:
    weights = np.zeros((2, 1, 1, 2), np.float32)
    weights[0, 0, 0] = [-1, 1]
    picture = picture_of(weights, "conv1 of half0A")
    assert pixels(picture.data_url)[..., 0].tolist() == [[0, 255, 255, 128, 128]]
    assert (picture.width_px, picture.height_px) == (5, 1)
    assert picture.text == "the 2 filters of conv1 of half0A, 1 x 2 each; weights from -1.00 to 1.00"


def test_three_channels_are_blue_green_red() -> None:
    weights = np.array([1, 0, 0], np.float32).reshape(1, 3, 1, 1)
    assert pixels(picture_of(weights, "conv1").data_url).tolist() == [[[255, 0, 0]]]


def test_the_first_convolution_of_the_last_snapshot(tmp_path: Path) -> None:
    assert first_filters(NETWORK, tmp_path) is None
    folder = tmp_path / NETWORK.name
    folder.mkdir()
    (folder / "solver.prototxt").write_text('snapshot_prefix: "snap" max_iter: 30')
    assert first_filters(NETWORK, tmp_path) is None
    weights = np.arange(4, dtype=np.float32).reshape(1, 1, 2, 2)
    layers = {"conv1": [weights, np.zeros(1, np.float32)], "conv2": [weights + 9, np.zeros(1, np.float32)]}
    net = parse_net("".join(f'layer {{ name: "{name}" type: "Convolution" }}' for name in layers))
    write_caffemodel(folder / "snap_iter_30.caffemodel", net, layers)
    picture = first_filters(NETWORK, tmp_path)
    assert picture is not None
    assert picture.text == "the 1 filters of conv1 of half0A, 2 x 2 each; weights from 0.00 to 3.00"
