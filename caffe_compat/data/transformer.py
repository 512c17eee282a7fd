"""Caffe's DataTransformer: crop, mirror, mean, scale, for one image at a time.

C H W: channels, height, width.  ``BatchMaker`` in batch.py does the same for many images at once.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from caffe_compat.data.datum import Datum, decode_image
from caffe_compat.data.mean import read_mean
from caffe_compat.errors import DataError
from caffe_compat.random import CaffeGenerator, generator


class CropWindow(NamedTuple):
    """Which part of an image is taken, and whether it is mirrored left to right."""

    top: int
    left: int
    mirror: bool


def transform_image(
    image: np.ndarray, window: CropWindow, *, size: tuple[int, ...], mean: np.ndarray | None, scale: np.float32
) -> np.ndarray:
    """(value - mean) * scale of a window of ``size`` (height, width): float32 (C, height, width).

    ``image`` (C, H, W) uint8 or float32; ``mean`` float32, one value for each channel or (C, H, W), of which the window
    is taken, too.
    """
    place = np.s_[:, window.top : window.top + size[0], window.left : window.left + size[1]]
    values = image[place].astype(np.float32)
    if mean is not None:
        values -= mean[place] if mean.ndim == 3 else mean[:, None, None]
    values *= scale
    return values[:, :, ::-1] if window.mirror else values


class Transformer:
    """``(value - mean) * scale`` over a crop that is random in TRAIN and central in TEST."""

    def __init__(
        self,
        *,
        crop_size: int = 0,
        mirror: bool = False,
        mean_file: str | Path | None = None,
        mean_image: np.ndarray | None = None,
        mean_value: Sequence[float] = (),
        scale: float = 1.0,
        force_color: bool = False,
        force_gray: bool = False,
        phase: str = "TRAIN",
        random_seed: int | None = None,
    ) -> None:
        """The fields of Caffe's ``transform_param``, and ``mean_image`` (C, H, W) in place of a file that holds it.

        ``random_seed``: NVCaffe's; where it is given, the windows and mirrors do not depend on what else the process
        has drawn.

        Raises DataError when two of mean_file, mean_image and mean_value, or force_color and force_gray, are
        given, and when the mean file cannot be read.
        """
        if mean_image is not None and (mean_file is not None or len(mean_value)):
            raise DataError("Transformer: mean_image beside mean_file or mean_value; keep one of them")
        if mean_file is not None and len(mean_value):
            raise DataError("transform_param: mean_file and mean_value are both set; keep one of them")
        if force_color and force_gray:
            raise DataError("transform_param: force_color and force_gray are both set; keep one of them")
        self.crop_size = crop_size
        self.mirror = mirror
        if mean_file is not None:
            mean_image = read_mean(mean_file)
        self.mean = None if mean_image is None else np.ascontiguousarray(mean_image, np.float32)  # (C, H, W)
        self.mean_value = np.array(mean_value, np.float32)  # (0), (1) or (C)
        self._channel_mean = np.empty(0, np.float32)
        self.scale = np.float32(scale)
        self.force_color = force_color
        self.force_gray = force_gray
        self.phase = phase
        self.random_seed = random_seed
        self.random: CaffeGenerator | None = None

    @classmethod
    def from_param(cls, param: Any, phase: str) -> "Transformer":
        """From a TransformationParameter message."""
        return cls(
            crop_size=param.crop_size,
            mirror=param.mirror,
            mean_file=param.mean_file if param.HasField("mean_file") else None,
            mean_value=list(param.mean_value),
            scale=param.scale,
            force_color=param.force_color,
            force_gray=param.force_gray,
            phase=phase,
            random_seed=param.random_seed if param.random_seed >= 0 else None,
        )

    @property
    def is_random(self) -> bool:
        """Whether it draws random numbers."""
        return self.mirror or (self.phase == "TRAIN" and self.crop_size > 0)

    def start_random(self, seed: int | None = None) -> None:
        """Begin its own random stream, seeded by one draw of the process-wide stream as in Caffe (or by ``seed``, or
        ``random_seed``).  Draws nothing when nothing is random."""
        seed = self.random_seed if seed is None else seed
        self.random = CaffeGenerator(generator().raw() if seed is None else seed) if self.is_random else None

    def decode(self, data: Any) -> np.ndarray:
        """The (C, H, W) uint8 view of an encoded image, in the number of channels asked for."""
        color = True if self.force_color else False if self.force_gray else None
        return decode_image(data, color).transpose(2, 0, 1)

    def image_of(self, datum: Datum) -> np.ndarray:
        """The (C, H, W) values of a record (uint8 or float32)."""
        return self.decode(datum.data) if datum.encoded else datum.array()

    def output_shape(self, channels: int, height: int, width: int) -> tuple[int, int, int]:
        """(C, H, W) of the transformed image; DataError where Caffe refuses the input."""
        crop = self.crop_size
        if channels < 1 or height < max(1, crop) or width < max(1, crop):
            what = f"at least {crop}x{crop} for crop_size {crop}" if crop else "at least 1 of each"
            raise DataError(f"image is {channels}x{height}x{width} (channels x height x width); expected {what}")
        if self.mean is not None and self.mean.shape != (channels, height, width):
            shape = "x".join(map(str, self.mean.shape))
            raise DataError(f"image is {channels}x{height}x{width}; the mean file is {shape}, expected the same size")
        if self.mean_value.size not in (0, 1, channels):
            raise DataError(
                f"{self.mean_value.size} mean_value for {channels} channels; expected 1, or as many as channels"
            )
        return (channels, crop or height, crop or width)

    def mean_for(self, channels: int) -> np.ndarray | None:
        """What is subtracted: the mean image (C, H, W), one value per channel (C), or None."""
        if self.mean is not None or not self.mean_value.size:
            return self.mean
        if len(self._channel_mean) != channels:  # the same array each time: others keep copies of it
            self._channel_mean = np.ascontiguousarray(np.broadcast_to(self.mean_value, channels))
        return self._channel_mean

    def draw(self, height: int, width: int) -> CropWindow:
        """The window for the next image."""
        top, left, mirror = self.draw_windows(np.array([[height, width]]))[0].tolist()
        return CropWindow(top, left, mirror == 1)

    def draw_windows(self, sizes: np.ndarray) -> np.ndarray:
        """Windows for images of these heights and widths (N, 2): int32 (N, 3) of top, left, mirror.

        Takes per image first a draw for the mirror, where there is one, then, for a random crop,
        one for top and one for left.
        """
        windows = np.zeros((len(sizes), 3), np.int32)
        spare = sizes - self.crop_size
        crop_is_random = self.crop_size > 0 and self.phase == "TRAIN"
        draws = np.empty((len(sizes), 0), np.uint32)
        if self.is_random:
            if self.random is None:
                self.start_random()
            assert self.random is not None
            draws = self.random.raws((len(sizes), self.mirror + 2 * crop_is_random))
        if self.mirror:
            windows[:, 2] = draws[:, 0] % 2
        if crop_is_random:
            windows[:, :2] = draws[:, -2:] % (spare + 1)
        elif self.crop_size:
            windows[:, :2] = spare // 2
        return windows

    def apply(self, image: np.ndarray, window: CropWindow) -> np.ndarray:
        """Transformed (C, H, W) float32 of ``image`` (C, H, W; uint8 or float32)."""
        _, height, width = self.output_shape(*image.shape)
        mean = self.mean_for(len(image))
        return transform_image(image, window, size=(height, width), mean=mean, scale=self.scale)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Draw a window and apply it."""
        self.output_shape(*image.shape)  # which refuses an image before anything is drawn for it
        return np.ascontiguousarray(self.apply(image, self.draw(*image.shape[1:])))

    def get_state(self) -> str | None:
        """The random stream's position, in hexadecimal."""
        return self.random.get_state().hex() if self.random is not None else None

    def set_state(self, state: str | None) -> None:
        """Continue from a ``get_state``."""
        if state is not None:
            if self.random is None:
                self.random = CaffeGenerator(0)
            self.random.set_state(bytes.fromhex(state))
