"""LeNet written in Python (NetSpec), trained in a loop of one's own on an LMDB: Caffe's 01-learning-lenet.

python examples/lenet_netspec.py --out examples_out
"""

import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from digits import SCALE, folder_argument, images
from matplotlib.figure import Figure

import caffe_compat.pycaffe as caffe
from caffe_compat.data import write_lmdb
from caffe_compat.pycaffe import layers as L
from caffe_compat.pycaffe import params as P

ITERATIONS, TEST_INTERVAL, TEST_BATCHES, BATCH = 200, 20, 5, 40
SOLVER = """
train_net: "{0}/lenet_train.prototxt"  test_net: "{0}/lenet_test.prototxt"  test_iter: 5  test_interval: 1000
base_lr: 0.01  momentum: 0.9  weight_decay: 0.0005  lr_policy: "inv"  gamma: 0.0001  power: 0.75
snapshot_prefix: "{0}/lenet"  random_seed: 1
"""


def write_database(path: Path, per_class: int, seed: int) -> None:
    """Gray digits of 28 x 28, as MNIST's."""
    shutil.rmtree(path, ignore_errors=True)  # of an earlier run
    pixels, labels = images(per_class, seed)
    gray = [cv2.cvtColor(image.transpose(1, 2, 0), cv2.COLOR_BGR2GRAY)[None, 2:-2, 2:-2] for image in pixels]
    datums = [caffe.io.array_to_datum(image, label) for image, label in zip(gray, labels, strict=True)]
    write_lmdb(path, ((f"{i:05d}", datum.SerializeToString()) for i, datum in enumerate(datums)))


def lenet(lmdb: Path, batch_size: int) -> Any:
    """The net as a NetParameter; attributes of ``n`` become the names of layers and blobs."""
    xavier = {"weight_filler": {"type": "xavier"}}
    n = caffe.NetSpec()
    n.data, n.label = L.Data(
        batch_size=batch_size, backend=P.Data.LMDB, source=str(lmdb), transform_param={"scale": SCALE}, ntop=2
    )
    n.conv1 = L.Convolution(n.data, kernel_size=5, num_output=20, **xavier)
    n.pool1 = L.Pooling(n.conv1, kernel_size=2, stride=2, pool=P.Pooling.MAX)
    n.conv2 = L.Convolution(n.pool1, kernel_size=5, num_output=50, **xavier)
    n.pool2 = L.Pooling(n.conv2, kernel_size=2, stride=2, pool=P.Pooling.MAX)
    n.fc1 = L.InnerProduct(n.pool2, num_output=500, **xavier)
    n.relu1 = L.ReLU(n.fc1, in_place=True)
    n.score = L.InnerProduct(n.relu1, num_output=10, **xavier)
    n.loss = L.SoftmaxWithLoss(n.score, n.label)
    return n.to_proto()


def main() -> None:
    out = folder_argument(__doc__)
    for part, per_class, seed in (("train", 150, 1), ("test", 20, 2)):
        write_database(out / f"{part}_lmdb", per_class, seed)
        (out / f"lenet_{part}.prototxt").write_text(str(lenet(out / f"{part}_lmdb", BATCH)))
    (out / "lenet_solver.prototxt").write_text(SOLVER.format(out))
    solver = caffe.get_solver(out / "lenet_solver.prototxt")

    # step(1) is one update; between two the loop may look at any blob, or run the test net (which shares the weights).
    losses, accuracies = [], []
    for iteration in range(ITERATIONS):
        solver.step(1)
        losses.append(float(solver.net.blobs["loss"].data))
        if (iteration + 1) % TEST_INTERVAL == 0:
            right = 0
            for _ in range(TEST_BATCHES):
                solver.test_nets[0].forward()
                blobs = solver.test_nets[0].blobs
                right += np.sum(blobs["score"].data.argmax(1) == blobs["label"].data)
            accuracies.append(right / (TEST_BATCHES * BATCH))
            print(f"iteration {iteration + 1}: loss {losses[-1]:.3f}, test accuracy {accuracies[-1]:.3f}")

    figure = Figure(layout="constrained")
    axes = figure.subplots()
    axes.plot(range(1, ITERATIONS + 1), losses)
    axes.set(xlabel="iteration", ylabel="training loss")
    right_axes = axes.twinx()
    right_axes.plot(range(TEST_INTERVAL, ITERATIONS + 1, TEST_INTERVAL), accuracies, "r.-")
    right_axes.set(ylabel="test accuracy", ylim=(0, 1))
    figure.savefig(out / "lenet_netspec.png")
    print(f"picture: {out / 'lenet_netspec.png'}")


if __name__ == "__main__":
    main()
