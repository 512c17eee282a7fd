"""A package without its compiled part does the same: fillers and batches to the bit, training but for rounding."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from caffe_compat import extension
from caffe_compat.data import encode_datum, write_lmdb

ROOT = Path(__file__).parent.parent
#: Relative to the largest value of a blob: products summed in another order, through the net and five steps.
TRAINING_TOLERANCE = 1e-5

DATA = """
layer { name: "data" type: "Data" top: "data" top: "label"
  transform_param { crop_size: 67 mirror: true mean_value: 120 scale: 0.02 }
  data_param { source: "db" batch_size: 6 backend: LMDB } }
"""
# CaffeNet in small: every operator of ops/, and all kinds of fillers that draw.
CAFFENET = (
    DATA
    + """
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1" convolution_param {
  num_output: 8 kernel_size: 11 stride: 4 engine: CAFFE
  weight_filler { type: "gaussian" std: 0.05 } bias_filler { type: "uniform" min: -0.1 max: 0.1 } } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1"
  pooling_param { pool: MAX kernel_size: 3 stride: 2 } }
layer { name: "norm1" type: "LRN" bottom: "pool1" top: "norm1" lrn_param { local_size: 5 alpha: 0.1 beta: 0.75 } }
layer { name: "conv2" type: "Convolution" bottom: "norm1" top: "conv2" convolution_param {
  num_output: 8 kernel_size: 3 pad: 1 group: 2 engine: CAFFE weight_filler { type: "msra" } } }
layer { name: "relu2" type: "ReLU" bottom: "conv2" top: "conv2" }
layer { name: "fc3" type: "InnerProduct" bottom: "conv2" top: "fc3" inner_product_param {
  num_output: 20 weight_filler { type: "gaussian" std: 0.1 sparse: 5 } } }
layer { name: "drop3" type: "Dropout" bottom: "fc3" top: "fc3" dropout_param { dropout_ratio: 0.4 } }
layer { name: "fc4" type: "InnerProduct" bottom: "fc3" top: "fc4" inner_product_param {
  num_output: 12 weight_filler { type: "positive_unitball" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc4" bottom: "label" top: "loss" }
"""
)
LENET = (
    DATA
    + """
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1" convolution_param {
  num_output: 6 kernel_size: 5 stride: 3 weight_filler { type: "xavier" } } }
layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1"
  pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
layer { name: "ip1" type: "InnerProduct" bottom: "pool1" top: "ip1" inner_product_param {
  num_output: 16 weight_filler { type: "xavier" } } }
layer { name: "relu1" type: "ReLU" bottom: "ip1" top: "ip1" }
layer { name: "ip2" type: "InnerProduct" bottom: "ip1" top: "ip2" inner_product_param {
  num_output: 12 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip2" bottom: "label" top: "loss" }
"""
)
SOLVER = """
net: "lenet.prototxt" base_lr: 0.01 momentum: 0.9 weight_decay: 0.0005 lr_policy: "inv" gamma: 0.0001 power: 0.75
max_iter: 5 display: 1 solver_mode: CPU random_seed: 7
"""
JOB = """
import sys
import numpy as np
import torch
from caffe_compat import Net, Solver, extension, random
from caffe_compat.data import Transformer, compute_mean, open_database
from caffe_compat.data.batch import BatchMaker
from caffe_compat.ops import batch_transform

torch.set_num_threads(1)
exact, rounded = {"drawn": random.CaffeGenerator(1).gaussian((500,), dtype=np.float64)}, {}
exact["mean"] = compute_mean(open_database("db"))
random.set_seed(3)
net = Net("caffenet.prototxt", phase="TRAIN")
exact |= {f"filled {name}": value.clone().numpy() for name, value in net.state_dict().items()}
batch = net.next_batch()
exact |= {f"batch {name}": value.numpy() for name, value in batch.items()}
for fast in (False, True):
    random.set_seed(4)
    copy = Net("caffenet.prototxt", phase="TRAIN", fast=fast)
    copy.load_state_dict(net.state_dict())
    outputs, loss = copy.forward_with_loss(**batch)
    loss.backward()
    rounded |= {f"{name}, fast {fast}": value.detach().numpy() for name, value in outputs.items()}
    rounded |= {f"gradient of {name}, fast {fast}": p.grad.numpy() for name, p in copy.named_parameters()}
    copy.close()
net.close()
pixels = torch.arange(2 * 3 * 5 * 6, dtype=torch.uint8).view(2, 3, 5, 6)
windows = torch.tensor([[0, 1, 1], [2, 0, 0]], dtype=torch.int32)
exact["batch_transform"] = batch_transform(pixels, windows, torch.ones(3), 0.3, (3, 4)).numpy()
solver = Solver("solver.prototxt")
solver.step(5)
rounded |= {f"trained {name}": value.numpy() for name, value in solver.net.state_dict().items()}
solver.close()
np.savez(sys.argv[1] + "_exact.npz", **exact)
np.savez(sys.argv[1] + "_rounded.npz", **rounded)
assert (extension.load() is None) == (sys.argv[1] == "without")
"""


def results(folder: Path, which: str, kind: str) -> dict[str, np.ndarray]:
    return dict(np.load(folder / f"{which}_{kind}.npz"))


@pytest.mark.skipif(extension.load() is None, reason="compares with the extension")
def test_the_same_values_without_the_extension(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (16, 3, 72, 70), dtype=np.uint8)
    write_lmdb(tmp_path / "db", ((f"{i:03d}", encode_datum(image, i % 12)) for i, image in enumerate(images)))
    for name, text in (("caffenet", CAFFENET), ("lenet", LENET), ("solver", SOLVER)):
        (tmp_path / f"{name}.prototxt").write_text(text)
    for which, switch in (("with", "1"), ("without", "0")):
        environment = os.environ | {"PYTHONPATH": str(ROOT), extension.VARIABLE: switch}
        subprocess.run([sys.executable, "-c", JOB, which], cwd=tmp_path, env=environment, check=True)
    theirs, ours = (results(tmp_path, which, "exact") for which in ("with", "without"))
    assert len(ours) >= 12
    assert [name for name in theirs if not np.array_equal(theirs[name], ours[name])] == []
    theirs, ours = (results(tmp_path, which, "rounded") for which in ("with", "without"))
    assert len(ours) >= 20
    for name, values in theirs.items():
        largest = np.abs(values).max()
        assert largest > 0, name
        assert np.abs(values - ours[name]).max() <= TRAINING_TOLERANCE * largest, name
