"""What ``Classifier`` and ``Detector`` share: a net with an ``io.Transformer`` for its first input."""

from collections.abc import Sequence

import numpy as np

from caffe_compat.pycaffe.io import Transformer
from caffe_compat.pycaffe.net import Net


class ImageNet(Net):
    """``transformer`` makes inputs of images."""

    transformer: Transformer

    def set_transformer(
        self,
        mean: np.ndarray | None,
        input_scale: float | None,
        raw_scale: float | None,
        channel_swap: Sequence[int] | None,
    ) -> None:
        """Make the transformer; settings that are None are left out."""
        name = self.inputs[0]
        self.transformer = Transformer({name: self.blobs[name].shape})
        self.transformer.set_transpose(name, (2, 0, 1))
        if mean is not None:
            self.transformer.set_mean(name, mean)
        if input_scale is not None:
            self.transformer.set_input_scale(name, input_scale)
        if raw_scale is not None:
            self.transformer.set_raw_scale(name, raw_scale)
        if channel_swap is not None:
            self.transformer.set_channel_swap(name, channel_swap)
