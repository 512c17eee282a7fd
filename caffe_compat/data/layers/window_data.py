"""WindowData: warped image regions, a fixed share of them objects (R-CNN's training data)."""

import math
import os
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from caffe_compat.data.datum import decode_image
from caffe_compat.data.identity import digest
from caffe_compat.data.image_list import read_file
from caffe_compat.data.source_layer import SourceLayer, draw_as_thread_starts, image_shape_without_data
from caffe_compat.data.thread_map import ThreadMap
from caffe_compat.data.transformer import Transformer
from caffe_compat.data.window_file import IMAGE, LABEL, X1, X2, Y1, Y2, WindowFile
from caffe_compat.errors import DataError
from caffe_compat.layers.base import Shape
from caffe_compat.layers.registry import register
from caffe_compat.proto import caffe_pb2
from caffe_compat.random import CaffeGenerator, generator


@register("WindowData")
class WindowData(SourceLayer):
    """Tops: data (N, C, crop_size, crop_size), label (N); background windows first."""

    param_fields = ("window_data_param", "transform_param")
    top_count = (2, 2)

    def setup(self, *bottom_shapes: Shape) -> None:
        """Read the window file; take as many draws of the random stream as Caffe does."""
        param, transform = self.param.window_data_param, self.param.transform_param
        if transform.crop_size < 1 or param.batch_size < 1:
            self.fail(
                f"transform_param.crop_size is {transform.crop_size} and window_data_param.batch_size "
                f"{param.batch_size}; expected at least 1"
            )
        if param.crop_mode not in ("warp", "square"):
            self.warn(f'window_data_param.crop_mode is "{param.crop_mode}"; taken as "warp", as in Caffe')
        if 2 * param.context_pad >= transform.crop_size:
            self.fail(f"window_data_param.context_pad is {param.context_pad}; expected less than half of crop_size")
        if transform.HasField("scale"):
            self.warn("transform_param.scale has no effect, as in Caffe; WindowData has window_data_param.scale")
        transformer = self._make_transformer()
        transformer.start_random()  # unused, but Caffe takes the draw, here and below
        with self._errors_with_place():
            self.source: WindowSource = WindowSource(param, transformer, generator().raw())
        draw_as_thread_starts(transformer)

    def infer_shapes(self, *bottom_shapes: Shape) -> list[Shape]:
        """(N, C, crop_size, crop_size) and (N)."""
        batch, crop = self.param.window_data_param.batch_size, self.param.transform_param.crop_size
        return [(batch, self.source.windows.channels, crop, crop), (batch,)]

    def shapes_without_data(self) -> list[Shape]:
        """By ``crop_size``."""
        batch = self.param.window_data_param.batch_size
        return [(batch, *image_shape_without_data(self)), (batch,)]

    def source_identity(self) -> dict[str, str]:
        """With the windows."""
        windows = self.source.windows
        paths = [os.fsencode(path) for path in windows.paths]
        content = digest([*paths, windows.foreground.tobytes(), windows.background.tobytes()])
        return {**super().source_identity(), "content": f"{len(paths)} images ({content})"}


class WindowSource:
    """Batches of windows drawn at random, with replacement."""

    def __init__(self, param: caffe_pb2.WindowDataParameter, transformer: Transformer, seed: int) -> None:
        """``param``: a WindowDataParameter.  Raises DataError when the window file cannot be used."""
        self.windows = WindowFile(param.source, param.fg_threshold, param.bg_threshold)
        for kind, rows in (("foreground", self.windows.foreground), ("background", self.windows.background)):
            if not len(rows):
                raise DataError(f"{param.source}: no {kind} windows with these thresholds; expected at least one")
        self.batch_size: int = param.batch_size
        self._foreground_count = int(np.float32(param.batch_size) * np.float32(param.fg_fraction))
        self._context_pad: int = param.context_pad
        self._square: bool = param.crop_mode == "square"
        self._scale = np.float32(param.scale)
        self._root: str = param.root_folder
        self._crop: int = transformer.crop_size
        self._mirror = transformer.mirror
        self._mean = self._centre_of_mean(transformer)
        self._random = CaffeGenerator(seed)
        self._map = ThreadMap()
        self._cache = [read_file(self._root + path) for path in self.windows.paths] if param.cache_images else None

    def load(self) -> tuple[Tensor, Tensor]:
        """The next batch: data (N, C, crop, crop) and labels (N), float32."""
        drawn = [self._draw(False) for _ in range(self.batch_size - self._foreground_count)]
        drawn += [self._draw(True) for _ in range(self._foreground_count)]
        data = np.stack(self._map(self._cut, drawn))
        labels = np.array([window[LABEL] for window, _ in drawn], np.float32)
        return torch.from_numpy(data), torch.from_numpy(labels)

    def state(self) -> dict[str, Any]:
        """The random stream's position."""
        return {"random": self._random.get_state().hex()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from a ``state``."""
        self._random.set_state(bytes.fromhex(state["random"]))

    def close(self) -> None:
        """End the threads."""
        self._map.close()

    def _centre_of_mean(self, transformer: Transformer) -> np.ndarray | None:
        """The mean as (C, crop, crop), or (C, 1, 1), or None."""
        channels, crop = self.windows.channels, self._crop
        if transformer.mean is None:
            if transformer.mean_value.size not in (0, 1, channels):
                raise DataError(f"{transformer.mean_value.size} mean_value; expected 1, or one per channel: {channels}")
            values = transformer.mean_for(channels)
            return values[:, None, None] if values is not None else None
        mean = transformer.mean
        offset = (mean.shape[2] - crop) // 2  # Caffe takes the width's offset for the rows too
        if mean.shape[0] != channels or offset < 0 or offset + crop > mean.shape[1]:
            raise DataError(
                f"mean file is {mean.shape} (C, H, W); expected {channels} channels and room for {crop}x{crop}"
            )
        return mean[:, offset : offset + crop, offset : offset + crop]

    def _draw(self, foreground: bool) -> tuple[np.ndarray, bool]:
        rows = self.windows.foreground if foreground else self.windows.background
        window = rows[self._random.raw() % len(rows)]
        return window, self._mirror and self._random.raw() % 2 == 1

    def _cut(self, drawn: tuple[np.ndarray, bool]) -> np.ndarray:
        """The window, warped to the crop size, as (C, crop, crop) float32; zeros around it."""
        window, mirror = drawn
        path = self._root + self.windows.paths[window[IMAGE]]
        data = read_file(path) if self._cache is None else self._cache[window[IMAGE]]
        image = decode_image(data, True, path)
        if window[X2] < window[X1] or window[Y2] < window[Y1]:
            raise DataError(
                f"{self.windows.path}: {path}: window {window[X1:].tolist()} is x1 y1 x2 y2; x2 < x1 or y2 < y1"
            )
        (x1, y1, x2, y2), (width, height), (left, top) = self._place(window, mirror, image.shape)
        part = image[max(0, y1) : max(0, y2 + 1), max(0, x1) : max(0, x2 + 1)]
        if not part.size or width < 1 or height < 1 or min(x1, y1, left, top) < 0:
            raise DataError(
                f"{self.windows.path}: {path}: window {window[X1:].tolist()} is empty, or outside the image"
            )
        part = cv2.resize(part, (width, height), interpolation=cv2.INTER_LINEAR)
        if mirror:
            part = part[:, ::-1]
        out = np.zeros((part.shape[2], self._crop, self._crop), np.float32)
        place = np.s_[:, top : top + height, left : left + width]
        values = part.transpose(2, 0, 1).astype(np.float32)
        if self._mean is not None:
            values -= self._mean[place] if self._mean.shape[1] > 1 else self._mean
        out[place] = values * self._scale
        return out

    def _place(
        self, window: np.ndarray, mirror: bool, shape: tuple[int, ...]
    ) -> tuple[tuple[int, int, int, int], tuple[int, int], tuple[int, int]]:
        """(x1, y1, x2, y2) in the image, (width, height) to warp it to, (left, top) in the crop.

        In float32 throughout, as Caffe.
        """
        crop = self._crop
        x1, y1, x2, y2 = (int(v) for v in window[X1:])
        if not self._context_pad and not self._square:
            return (x1, y1, x2, y2), (crop, crop), (0, 0)
        f = np.float32
        scale = f(crop) / f(crop - 2 * self._context_pad)
        half_height, half_width = f(y2 - y1 + 1) / f(2), f(x2 - x1 + 1) / f(2)
        centre_x, centre_y = f(x1) + half_width, f(y1) + half_height
        if self._square:
            half_height = half_width = max(half_height, half_width)
        x1, x2 = _round(centre_x - half_width * scale), _round(centre_x + half_width * scale)
        y1, y2 = _round(centre_y - half_height * scale), _round(centre_y + half_height * scale)

        # What lies outside the image stays zero.
        scale_x, scale_y = f(crop) / f(x2 - x1 + 1), f(crop) / f(y2 - y1 + 1)
        pad_x1, pad_y1 = max(0, -x1), max(0, -y1)
        pad_x2, pad_y2 = max(0, x2 - shape[1] + 1), max(0, y2 - shape[0] + 1)
        x1, y1, x2, y2 = x1 + pad_x1, y1 + pad_y1, x2 - pad_x2, y2 - pad_y2
        left = _round(f(pad_x2 if mirror else pad_x1) * scale_x)
        top = _round(f(pad_y1) * scale_y)
        width = min(_round(f(x2 - x1 + 1) * scale_x), crop - left)
        height = min(_round(f(y2 - y1 + 1) * scale_y), crop - top)
        return (x1, y1, x2, y2), (width, height), (left, top)


def _round(value: np.floating[Any]) -> int:
    # C's round: halves go away from zero.
    return int(math.copysign(math.floor(abs(float(value)) + 0.5), value))
