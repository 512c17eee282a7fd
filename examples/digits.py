"""What the examples share: drawn images of digits and a small net that knows them.

Caffe's tutorials begin with a downloaded CaffeNet; these begin with a net that is trained here in three seconds.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import caffe_compat.pycaffe as caffe
from caffe_compat.pycaffe import layers as L
from caffe_compat.pycaffe import params as P
from reproduce.datasets.glyphs import draw

CLASSES = "0123456789"
SIZE_PX = 32
BATCH = 50
SCALE = 1 / 256  # the nets take BGR from 0 to 1
Layers = Callable[[Any], Any]  # adds layers over n.data to a NetSpec and returns the scores

caffe.init_log(1)  # leave out Caffe's lines of information


def images(per_class: int, seed: int, classes: range = range(10)) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (N, 3, 32, 32) uint8 in BGR and labels (N,) from 0; another seed draws other images.

    ``classes`` are places in reproduce's 62: 0 to 9 the digits, 10 to 35 the capitals.
    """
    labels = np.arange(per_class * len(classes)) % len(classes)
    return draw(labels + classes.start, seed), labels


def body(n: Any, classes: int = len(CLASSES)) -> Any:
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
    n.score = L.InnerProduct(n.relu3, num_output=classes, **weights)
    return n.score


def write_deploy(path: Path, layers: Layers = body, size_px: int = SIZE_PX) -> Path:
    """The net as it is used: an input and a softmax, no data layer and no loss."""
    n = caffe.NetSpec()
    n.data = L.Input(shape={"dim": [1, 3, size_px, size_px]})
    n.prob = L.Softmax(layers(n))
    net = n.to_proto()
    net.force_backward = True  # so that backward goes down to the image, though nothing there learns
    path.write_text(str(net))
    return path


def train(folder: Path, iterations: int = 250) -> tuple[Path, Path]:
    """Train the net and leave ``deploy.prototxt`` and ``digits.caffemodel`` in the folder; returns both."""
    pixels, labels = images(per_class=200, seed=1)
    return write_deploy(folder / "deploy.prototxt"), fit(folder, "digits", pixels, labels, iterations=iterations)


def fit(
    folder: Path, name: str, pixels: np.ndarray, labels: np.ndarray, *, iterations: int, layers: Layers = body
) -> Path:
    """Train a net of these layers on images (N, C, H, W) and save ``<name>.caffemodel``; returns its path."""
    n = caffe.NetSpec()
    n.data = L.Input(shape={"dim": [BATCH, *pixels.shape[1:]]})
    n.label = L.Input(shape={"dim": [BATCH]})
    n.loss = L.SoftmaxWithLoss(layers(n), n.label)
    (folder / f"{name}_train.prototxt").write_text(str(n.to_proto()))
    (folder / f"{name}_solver.prototxt").write_text(
        f'net: "{folder}/{name}_train.prototxt" type: "Adam" base_lr: 0.004 momentum: 0.9 momentum2: 0.999\n'
        f'lr_policy: "poly" power: 1 max_iter: {iterations} random_seed: 1\n'
    )
    solver = caffe.get_solver(folder / f"{name}_solver.prototxt")
    rng = np.random.default_rng(1)
    for _ in range(iterations):
        chosen = rng.integers(len(labels), size=BATCH)
        solver.net.blobs["data"].data[...] = pixels[chosen] * SCALE
        solver.net.blobs["label"].data[...] = labels[chosen]
        solver.step(1)
    weights = folder / f"{name}.caffemodel"
    solver.net.save(weights)
    return weights


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
