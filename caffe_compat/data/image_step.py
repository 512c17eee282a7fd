"""Steps that change an image's pixels, planned before they are taken.

Whoever plans draws the random numbers, in order; the steps themselves draw none, so that many images can be worked on
at a time.
"""

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

from caffe_compat.data.datum import decode_image
from caffe_compat.errors import DataError

Image = npt.NDArray[np.uint8]
#: an image (H, W, C) or (H, W), uint8, BGR, to another
Step = Callable[[Image], Image]


def take_steps(image: Image, steps: list[Step]) -> Image:
    """The image (H, W, C) after all ``steps``; DataError where OpenCV refuses one."""
    try:
        for step in steps:
            image = step(image)
            image = image if image.ndim == 3 else image[:, :, None]
    except cv2.error as error:
        raise DataError(f"cannot be transformed: {str(error).splitlines()[0]}") from None
    return image


def scaled(image: Image, factor: float, offset: float) -> Image:
    """factor * value + offset of each value, rounded (halves to even) and cut to 0 to 255, as OpenCV's convertTo."""
    values = np.arange(256, dtype=np.float32) * np.float32(factor) + np.float32(offset)
    return np.asarray(cv2.LUT(image, np.clip(np.rint(values), 0, 255).astype(np.uint8)), np.uint8)


def recode(image: Image) -> Image:
    """The image as it comes back from a JPEG: SSD keeps it so between its transforms."""
    done, data = cv2.imencode(".jpg", image)
    if not done:
        raise DataError("cannot be encoded as JPEG")
    return np.asarray(decode_image(data.tobytes()), np.uint8)
