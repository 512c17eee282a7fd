"""pycaffe's ``Classifier``: a net that takes images of any size."""

import os
from collections.abc import Sequence

import numpy as np

from caffe_compat.proto import caffe_pb2
from caffe_compat.pycaffe.image_net import ImageNet
from caffe_compat.pycaffe.io import oversample as ten_crops
from caffe_compat.pycaffe.io import resize_image


class Classifier(ImageNet):
    """A TEST net with weights, and the settings of an ``io.Transformer`` for its first input.

    ``image_dims``: (height, width) to which images are resized before crops are taken; default the input's own.
    """

    def __init__(  # noqa: PLR0917  # as scripts call it
        self,
        model_file: str | os.PathLike[str],
        pretrained_file: str | os.PathLike[str],
        image_dims: Sequence[int] | None = None,
        mean: np.ndarray | None = None,
        input_scale: float | None = None,
        raw_scale: float | None = None,
        channel_swap: Sequence[int] | None = None,
    ) -> None:
        super().__init__(model_file, caffe_pb2.TEST, weights=pretrained_file)
        self.set_transformer(mean, input_scale, raw_scale, channel_swap)
        self.crop_dims = np.array(self.blobs[self.inputs[0]].shape[2:])
        self.image_dims = self.crop_dims if image_dims is None or len(image_dims) == 0 else image_dims

    def predict(self, inputs: Sequence[np.ndarray], oversample: bool = True) -> np.ndarray:
        """The net's first output for each image (H, W, C): with ``oversample`` the mean over ten crops, else that of
        the centre crop."""
        images = np.stack([resize_image(image, self.image_dims) for image in inputs])
        if oversample:
            crops = ten_crops(list(images), self.crop_dims)
        else:
            top, left = (int(d / 2.0 - c / 2.0) for d, c in zip(self.image_dims, self.crop_dims, strict=True))
            bottom, right = (int(d / 2.0 + c / 2.0) for d, c in zip(self.image_dims, self.crop_dims, strict=True))
            crops = images[:, top:bottom, left:right]
        name = self.inputs[0]
        arrays = np.stack([self.transformer.preprocess(name, crop) for crop in crops])
        predictions = self.forward_all(None, **{name: arrays})[self.outputs[0]]
        if oversample:
            predictions = predictions.reshape(len(inputs), 10, -1).mean(1)
        return predictions
