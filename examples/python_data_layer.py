"""A data layer written in Python feeds the training: each batch is drawn while it is asked for, no file is read.

python examples/python_data_layer.py --out examples_out
"""

import json
from typing import Any

import numpy as np
from digits import SCALE, SIZE_PX, body, folder_argument, images
from matplotlib.figure import Figure

import caffe_compat.pycaffe as caffe
from caffe_compat.pycaffe import layers as L

ITERATIONS, BATCH, TEST_ITER = 150, 50, 4
Blobs = list[Any]  # each with data, diff, shape and reshape()


class DrawnDigits(caffe.Layer):
    """Tops: data (batch, 3, 32, 32) from 0 to 1, and label (batch,). ``param_str`` is JSON: batch, seed, invert."""

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        """Once, when the net is built."""
        self.settings = json.loads(self.param_str)
        self.rng = np.random.default_rng(self.settings["seed"])
        self.pixels, self.labels = images(per_class=150, seed=self.settings["seed"])

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        """Before each forward: the shapes of the tops, which could change from batch to batch."""
        top[0].reshape(self.settings["batch"], 3, SIZE_PX, SIZE_PX)
        top[1].reshape(self.settings["batch"])

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        """Fill the tops: here with random images, some of them with light and dark exchanged."""
        chosen = self.rng.integers(len(self.labels), size=self.settings["batch"])
        values = self.pixels[chosen] * np.float32(SCALE)
        inverted = self.rng.random(len(chosen)) < self.settings["invert"]
        values[inverted] = 1 - values[inverted]
        top[0].data[...] = values
        top[1].data[...] = self.labels[chosen]

    def backward(self, top: Blobs, propagate_down: list[bool], bottom: Blobs) -> None:
        """Data has no gradient."""


def net(seed: int) -> str:
    """The net as prototxt. ``module`` is found on Python's path, where this script's folder is the first entry."""
    settings = {"batch": BATCH, "seed": seed, "invert": 0.5}
    n = caffe.NetSpec()
    n.data, n.label = L.Python(module="python_data_layer", layer="DrawnDigits", param_str=json.dumps(settings), ntop=2)
    score = body(n)
    n.loss = L.SoftmaxWithLoss(score, n.label)
    n.accuracy = L.Accuracy(score, n.label)
    return str(n.to_proto())


def main() -> None:
    out = folder_argument(__doc__)
    (out / "train.prototxt").write_text(net(seed=1))
    (out / "test.prototxt").write_text(net(seed=2))
    (out / "solver.prototxt").write_text(
        f'train_net: "{out}/train.prototxt" test_net: "{out}/test.prototxt" test_iter: {TEST_ITER} test_interval: 999\n'
        'type: "Adam" base_lr: 0.002 lr_policy: "fixed" momentum: 0.9 momentum2: 0.999 random_seed: 1\n'
    )
    solver = caffe.get_solver(out / "solver.prototxt")
    losses = []
    for _ in range(ITERATIONS):
        solver.step(1)
        losses.append(float(solver.net.blobs["loss"].data))
    test_net = solver.test_nets[0]
    accuracy = np.mean([float(test_net.forward()["accuracy"]) for _ in range(TEST_ITER)])
    print(f"loss {np.mean(losses[:10]):.3f} at first, {np.mean(losses[-10:]):.3f} at last")
    print(f"accuracy on {TEST_ITER * BATCH} images of another seed: {accuracy:.3f}")
    layer = test_net.layer_dict["data"]  # the object that was made from the class above
    print(f"the layer: {type(layer).__name__}, {layer.settings}")

    figure = Figure(layout="constrained", figsize=(9, 4))
    left, right = figure.subplots(1, 2)
    left.plot(losses)
    left.set(xlabel="iteration", ylabel="training loss")
    batch = test_net.blobs["data"].data[:25].reshape(5, 5, 3, SIZE_PX, SIZE_PX)
    right.imshow(np.clip(batch.transpose(0, 3, 1, 4, 2).reshape(5 * SIZE_PX, 5 * SIZE_PX, 3)[..., ::-1], 0, 1))
    right.set_title("what the layer made")
    right.axis("off")
    figure.savefig(out / "python_data_layer.png")
    print(f"picture: {out / 'python_data_layer.png'}")


if __name__ == "__main__":
    main()
