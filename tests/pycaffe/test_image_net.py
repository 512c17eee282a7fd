"""The transformer of Classifier and Detector."""

from pathlib import Path

import numpy as np

import caffe_compat.pycaffe as caffe
from caffe_compat.pycaffe.image_net import ImageNet
from tests.pycaffe.image_nets import make_net


def test_settings_reach_the_transformer(tmp_path: Path) -> None:
    model, weights = make_net(tmp_path)
    net = ImageNet(model, caffe.TEST, weights=weights)
    net.set_transformer(None, None, None, None)
    assert net.transformer.transpose == {"data": (2, 0, 1)}
    assert not (net.transformer.mean)
    assert not (net.transformer.raw_scale)
    assert not (net.transformer.input_scale)
    net.set_transformer(np.array([1.0, 2.0, 3.0]), 0.5, 255, (2, 1, 0))
    value = net.transformer.preprocess("data", np.full((2, 2, 3), [0, 0, 1], np.float32))
    assert value[:, 0, 0].tolist() == [(255 - 1) / 2, -1, -1.5]
