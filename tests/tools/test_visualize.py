"""Pictures of filters and features."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from caffe_compat.cli import main
from caffe_compat.net import Net
from caffe_compat.tools.visualize import tile

NET = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 5 dim: 3 dim: 2 dim: 2 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 2 kernel_size: 1 bias_term: false } }
layer { name: "fc" type: "InnerProduct" bottom: "conv" top: "fc" inner_product_param { num_output: 3 } }
"""


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.prototxt").write_text(NET)
    net = Net("net.prototxt", phase="TEST")
    net.params["conv"][0].data.copy_(torch.tensor([[1.0, 0, 0], [0, 0, 1]]).view(2, 3, 1, 1))  # blue, red
    net.save("w.caffemodel")
    return tmp_path


def colours(path: Path) -> list[list[int]]:
    """The colours (BGR) in the middles of the tiles of a picture of one row of two."""
    picture = np.asarray(cv2.imread(str(path)))
    height, width = picture.shape[:2]
    return [picture[height // 2, x].tolist() for x in (width // 6, width - 1 - width // 6)]


def test_filters_in_the_colours_that_they_see(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["visualize", "net.prototxt", "w.caffemodel", "--layer", "conv"]) == 0
    assert capsys.readouterr().out == "conv_filters.png: 2 filters of 'conv', 1 x 1 each\n"
    assert colours(files / "conv_filters.png") == [[255, 0, 0], [0, 0, 255]]
    assert main(["visualize", "net.prototxt", "w.caffemodel", "--layer=conv", "--rgb", "--out=rgb.png"]) == 0
    assert colours(files / "rgb.png") == [[0, 0, 255], [255, 0, 0]]


def test_features_of_an_image(files: Path) -> None:
    cv2.imwrite("image.png", np.full((4, 4, 3), [200, 0, 100], np.uint8))
    words = [
        "visualize",
        "net.prototxt",
        "w.caffemodel",
        "--layer",
        "conv",
        "--image",
        "image.png",
        "--mean",
        "0,0,100",
    ]
    assert main(words) == 0
    picture = np.asarray(cv2.imread("conv_features.png"))
    height, width = picture.shape[:2]
    assert picture[height // 2, width // 10].tolist() == [255] * 3, "200, the largest value"
    assert picture[height // 2, width - 1 - width // 10].tolist() == [0] * 3, "100 - 100, the least"
    assert main([*words[:4], "fc", *words[5:]]) == 0


def test_what_cannot_be_shown(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, said in (
        (["--layer", "nope"], "no layer named 'nope'; there are data, conv, fc"),
        (["--layer", "fc"], "its filters cannot be shown: (3, 8); expected 4 axes"),
        (["--layer", "data"], "its filters cannot be shown: no blobs"),
        (["--layer", "conv", "--image", "gone.png", "--mean", "1,x"], '--mean is "1,x"; expected numbers'),
        (["--layer", "conv", "--image", "gone.png"], "gone.png: no such image"),
        (["--layer", "conv", "--out", "picture.xyz"], "picture.xyz: unknown kind of picture"),
    ):
        assert main(["visualize", "net.prototxt", "w.caffemodel", *words]) == 1
        assert said in capsys.readouterr().err


def test_tiles() -> None:
    picture = tile(np.zeros((3, 2, 2, 3)))
    assert picture.shape == (5, 5, 3)
    assert picture[:, 2].min() == 1
    assert picture[3:, 3:].min() == 1, "no fourth tile"
    assert picture[:2, :2].max() == 0
