"""pycaffe's ``Detector``: a net over windows of images (R-CNN)."""

import os
from collections.abc import Iterable, Sequence
from importlib import import_module
from typing import Any

import numpy as np

from caffe_compat.errors import DataError
from caffe_compat.proto import caffe_pb2
from caffe_compat.pycaffe.image_net import ImageNet
from caffe_compat.pycaffe.io import load_image, resize_image

Window = Sequence[int] | np.ndarray  # ymin, xmin, ymax, xmax


class Detector(ImageNet):
    """A TEST net with weights, and the settings of an ``io.Transformer`` for its first input.

    ``context_pad``: how many pixels at each border of the input show what lies around the window.
    """

    def __init__(  # noqa: PLR0917  # as scripts call it
        self,
        model_file: str | os.PathLike[str],
        pretrained_file: str | os.PathLike[str],
        mean: np.ndarray | None = None,
        input_scale: float | None = None,
        raw_scale: float | None = None,
        channel_swap: Sequence[int] | None = None,
        context_pad: int | None = None,
    ) -> None:
        super().__init__(model_file, caffe_pb2.TEST, weights=pretrained_file)
        self.set_transformer(mean, input_scale, raw_scale, channel_swap)
        self.configure_crop(context_pad)

    def detect_windows(self, images_windows: Iterable[tuple[str, Sequence[Window]]]) -> list[dict[str, Any]]:
        """The net's first output for windows of image files: a dict of window, prediction and filename for each."""
        pairs = [(filename, window) for filename, windows in images_windows for window in windows]
        if not pairs:
            return []
        name = self.inputs[0]
        images = {filename: load_image(filename) for filename in dict.fromkeys(filename for filename, _ in pairs)}
        crops = [self.crop(images[filename], window) for filename, window in pairs]
        arrays = np.stack([self.transformer.preprocess(name, crop) for crop in crops])
        predictions = self.forward_all(None, **{name: arrays})[self.outputs[0]]
        return [
            {"window": window, "prediction": prediction, "filename": filename}
            for (filename, window), prediction in zip(pairs, predictions, strict=True)
        ]

    def detect_selective_search(self, image_fnames: Iterable[str]) -> list[dict[str, Any]]:
        """The same for the windows that the package selective_search_ijcv_with_python proposes."""
        try:
            selective_search = import_module("selective_search_ijcv_with_python")
        except ImportError as error:
            raise DataError(
                "detect_selective_search needs the package selective_search_ijcv_with_python (and MATLAB), which is "
                "not here; find windows otherwise and call detect_windows"
            ) from error
        paths = [os.path.abspath(path) for path in image_fnames]
        windows = selective_search.get_windows(paths, cmd="selective_search_rcnn")
        return self.detect_windows(zip(paths, windows, strict=True))

    def crop(self, im: np.ndarray, window: Window) -> np.ndarray:
        """The window of an image (H, W, C); with ``context_pad`` in the input's size, with what lies around it."""
        top, left, bottom, right = (int(side) for side in window)
        if not self.context_pad:
            return im[top:bottom, left:right]
        # The window is enlarged so that, scaled to the input, it leaves context_pad pixels at each side.
        size = self.blobs[self.inputs[0]].width
        scale = size / (size - self.context_pad * 2.0)
        half = np.array([bottom - top + 1, right - left + 1]) / 2.0
        centre = np.array([top, left]) + half
        box = np.round(np.concatenate([centre - scale * half, centre + scale * half]))
        factor = size / (box[2:] - box[:2] + 1)
        pad = np.round(np.maximum(0, -box[:2]) * factor).astype(int)
        limits = np.array(im.shape[:2])
        box = np.clip(box, 0, np.tile(limits, 2)).astype(int)
        inside = box[2:] - box[:2] + 1
        if inside.min() <= 1:
            raise DataError(f"Detector: window {tuple(window)} lies outside an image of {im.shape[0]} x {im.shape[1]}")
        extent = np.minimum(np.round(inside * factor).astype(int), size - pad)
        result: np.ndarray = np.ones(self.crop_dims, np.float32) * self.crop_mean
        patch = resize_image(im[box[0] : box[2], box[1] : box[3]], extent)
        result[pad[0] : pad[0] + extent[0], pad[1] : pad[1] + extent[1]] = patch
        return result

    def configure_crop(self, context_pad: int | None) -> None:
        """Set ``context_pad``, and what stands where the context leaves the image: the mean, as an image's values."""
        name = self.inputs[0]
        self.context_pad = context_pad
        order = np.argsort(self.transformer.transpose[name])
        self.crop_dims = np.array(self.blobs[name].shape[1:])[order]
        self.crop_mean: np.ndarray = np.zeros(self.crop_dims, np.float32)
        mean = self.transformer.mean.get(name)
        if context_pad and mean is not None:
            crop_mean = mean.transpose(order)
            if name in self.transformer.channel_swap:
                crop_mean = crop_mean[:, :, np.argsort(self.transformer.channel_swap[name])]
            self.crop_mean = crop_mean / self.transformer.raw_scale.get(name, 1)
