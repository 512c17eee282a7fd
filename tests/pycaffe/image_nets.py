"""A net for images whose outputs are easily told, for the tests of Classifier and Detector."""

from pathlib import Path

import caffe_compat.pycaffe as caffe

# The mean of each channel of a 2 x 2 image.
NET = """
layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 3 dim: 3 dim: %d dim: %d } } }
layer { name: "mean" type: "Pooling" bottom: "data" top: "mean" pooling_param { pool: AVE global_pooling: true } }
layer { name: "scale" type: "Scale" bottom: "mean" top: "out" }
"""


def make_net(folder: Path, size: int = 2) -> tuple[str, str]:
    """Paths of the net and of its weights."""
    model, weights = folder / "net.prototxt", folder / "w.caffemodel"
    model.write_text(NET % (size, size))
    caffe.Net(str(model), caffe.TEST).save(str(weights))
    return str(model), str(weights)
