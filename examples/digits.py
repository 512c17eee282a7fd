"""What the examples share: drawn images of digits and a small net that knows them.

Caffe's tutorials begin with a downloaded CaffeNet; these begin with a net that is trained here in two seconds.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

import caffe_compat.pycaffe as caffe
from caffe_compat.pycaffe import layers as L
from caffe_compat.pycaffe import params as P
from reproduce.datasets.glyphs import draw

CLASSES = "0123456789"
SIZE_PX = 32
SCALE = 1 / 256  # the nets take BGR from 0 to 1

caffe.init_log(1)  # leave out Caffe's lines of information


def images(per_class: int, seed: int, classes: range = range(10)) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (N, 3, 32, 32) uint8 in BGR and labels (N,) from 0; another seed draws other images.

    ``classes`` are places in reproduce's 62: 0 to 9 the digits, 10 to 35 the capitals.
    """
    labels = np.arange(per_class * len(classes)) % len(classes)
    return draw(labels + classes.start, seed), labels


def body(n: Any) -> Any:
    """Add LeNet's kind of layers over ``n.data`` to a NetSpec; returns the scores of the classes."""
    weights = {"weight_filler": {"type": "xavier"}}
    n.conv1 = L.Convolution(n.data, kernel_size=5, num_output=16, **weights)
    n.pool1 = L.Pooling(n.conv1, kernel_size=2, stride=2, pool=P.Pooling.MAX)
    n.relu1 = L.ReLU(n.pool1, in_place=True)
    n.conv2 = L.Convolution(n.relu1, kernel_size=5, num_output=32, **weights)
    n.pool2 = L.Pooling(n.conv2, kernel_size=2, stride=2, pool=P.Pooling.MAX)
    n.relu2 = L.ReLU(n.pool2, in_place=True)
    n.fc1 = L.InnerProduct(n.relu2, num_output=64, **weights)
    n.relu3 = L.ReLU(n.fc1, in_place=True)
    n.score = L.InnerProduct(n.relu3, num_output=len(CLASSES), **weights)
    return n.score


def write_deploy(path: Path) -> Path:
    """The net as it is used: an input and a softmax, no data layer and no loss."""
    n = caffe.NetSpec()
    n.data = L.Input(shape={"dim": [1, 3, SIZE_PX, SIZE_PX]})
    n.prob = L.Softmax(body(n))
    net = n.to_proto()
    net.force_backward = True  # so that backward goes down to the image, though nothing there learns
    path.write_text(str(net))
    return path


def train(folder: Path, iterations: int = 250, batch: int = 50) -> tuple[Path, Path]:
    """Train the net and leave ``deploy.prototxt`` and ``digits.caffemodel`` in the folder; returns both."""
    n = caffe.NetSpec()
    n.data = L.Input(shape={"dim": [batch, 3, SIZE_PX, SIZE_PX]})
    n.label = L.Input(shape={"dim": [batch]})
    n.loss = L.SoftmaxWithLoss(body(n), n.label)
    (folder / "train.prototxt").write_text(str(n.to_proto()))
    (folder / "solver.prototxt").write_text(
        f'net: "{folder}/train.prototxt" base_lr: 0.01 lr_policy: "fixed" momentum: 0.9 weight_decay: 0.0005\n'
        f"max_iter: {iterations} random_seed: 1\n"
    )
    solver = caffe.SGDSolver(folder / "solver.prototxt")
    pixels, labels = images(per_class=200, seed=1)
    rng = np.random.default_rng(1)
    for _ in range(iterations):
        chosen = rng.integers(len(labels), size=batch)
        solver.net.blobs["data"].data[...] = pixels[chosen] * SCALE
        solver.net.blobs["label"].data[...] = labels[chosen]
        solver.step(1)
    solver.net.save(folder / "digits.caffemodel")
    return write_deploy(folder / "deploy.prototxt"), folder / "digits.caffemodel"


def to_rgb(pixels: np.ndarray) -> np.ndarray:
    """(..., 3, H, W) BGR to (..., H, W, 3) RGB, as matplotlib and ``caffe.io`` want images."""
    return np.moveaxis(pixels, -3, -1)[..., ::-1]


def folder_argument(about: str | None) -> Path:
    """The folder that ``--out`` names, made if it is missing."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--out", type=Path, default=Path("examples_out"), help="folder for the picture and files")
    folder: Path = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    return folder
