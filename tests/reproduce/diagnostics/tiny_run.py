"""A finished run of three tiny networks: both halves, and what keeps a first layer of A and is trained on B."""

from contextlib import chdir
from io import StringIO
from pathlib import Path

import numpy as np

from caffe_compat import Solver
from caffe_compat.solver import Log
from caffe_compat.solver.metrics import JsonLines
from reproduce.databases import write_databases
from reproduce.images import ArrayImages
from reproduce.run_folder import RunSettings, write_run_folder
from reproduce.treatments import base_half, transfer

BASE_A, BASE_B, CROSS = base_half("0", "A"), base_half("0", "B"), transfer("0", "A", "B", 1)
GAUSSIAN = 'weight_filler { type: "gaussian" std: 0.3 }'
DATA = """
layer { name: "data" type: "Data" top: "data" top: "label"
        data_param { source: "x" batch_size: 6 } transform_param { scale: 0.01 crop_size: 7 } }
"""
NET = f"""{DATA}
layer {{ name: "one" type: "Convolution" bottom: "data" top: "one"
        convolution_param {{ num_output: 5 kernel_size: 3 {GAUSSIAN} }} }}
layer {{ name: "norm" type: "BatchNorm" bottom: "one" top: "one" }}
layer {{ name: "stretch" type: "Scale" bottom: "one" top: "one" }}
layer {{ name: "relu" type: "ReLU" bottom: "one" top: "one" }}
layer {{ name: "pool" type: "Pooling" bottom: "one" top: "pool" pooling_param {{ kernel_size: 2 stride: 2 }} }}
layer {{ name: "two" type: "InnerProduct" bottom: "pool" top: "two"
        inner_product_param {{ num_output: 6 {GAUSSIAN} }} }}
layer {{ name: "relu2" type: "ReLU" bottom: "two" top: "two" }}
layer {{ name: "out" type: "InnerProduct" bottom: "two" top: "out"
        inner_product_param {{ num_output: 9 {GAUSSIAN} }} }}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "out" bottom: "label" top: "loss" }}
"""
ACCURACY = 'layer { name: "accuracy" type: "Accuracy" bottom: "out" bottom: "label" top: "accuracy" }\n'
SOLVER = """
train_net: "train.prototxt" test_net: "val.prototxt" test_iter: 4 test_interval: 10 base_lr: 0.05 lr_policy: "fixed"
momentum: 0.9 max_iter: 20 display: 1 snapshot_prefix: "tiny"
"""


def make_run(root: Path) -> Path:
    """Write databases and folders below ``root``, and train the networks; returns the run's folder."""
    base, out = root / "nets" / "base", root / "out"
    base.mkdir(parents=True)
    for name, text in (("train", NET), ("val", NET + ACCURACY), ("solver", SOLVER)):
        (base / f"{name}.prototxt").write_text(text)
    rng = np.random.default_rng(0)
    labels = np.arange(48) % 4
    pixels = {part: rng.integers(0, 256, (48, 3, 8, 8), np.uint8) for part in ("train", "valid")}
    for part in pixels:
        pixels[part][:, 0] = pixels[part][:, 0] // 4 + (labels * 60)[:, None, None].astype(np.uint8)
    networks = [BASE_A, BASE_B, CROSS]
    tests = write_databases(
        ArrayImages(list("abcd"), pixels, {"train": labels, "valid": labels}), networks, out / "data", lambda text: None
    )
    settings = RunSettings(root / "nets", outputs=4, seed=1, test_images=tuple(tests.items()), size_px=8)
    for network in networks:
        train(write_run_folder(network, settings, out))
    return out


def train(folder: Path) -> None:
    """As ``train_one`` does, in this process."""
    with chdir(folder):
        solver = Solver("solver.prototxt", device="cpu", log=Log(StringIO(), [JsonLines("train.jsonl")]))
        for weights in solver.param.weights:
            solver.net.copy_from(weights, warn=False)
        solver.solve()
        solver.close()
    (folder / "done").touch()
