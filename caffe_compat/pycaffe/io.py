"""pycaffe's ``caffe.io``: images, what nets want of them, and messages that hold arrays.  N C H W as elsewhere; images
are H W C, RGB, float32 from 0 to 1."""

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np

from caffe_compat.errors import CaffeCompatError, DataError, seen_from
from caffe_compat.proto import caffe_pb2
from caffe_compat.proto.blob import BlobArrays, decode_blob

__all__ = [
    "Transformer",
    "array_to_blobproto",
    "array_to_datum",
    "arraylist_to_blobprotovector_str",
    "blobproto_to_array",
    "blobprotovector_str_to_arraylist",
    "caffe_pb2",
    "datum_to_array",
    "load_image",
    "np",
    "oversample",
    "resize_image",
]

Shape = tuple[int, ...]

_LUMINANCE = np.array([0.2125, 0.7154, 0.0721])  # of R, G, B: scikit-image's, with which Caffe loads


class ArrayError(CaffeCompatError, ValueError):
    """An array or message of the wrong shape; scripts catch ValueError."""


class MissingImageError(DataError, FileNotFoundError):
    """No such image; scripts catch OSError."""


# -- messages ---------------------------------------------------------------------------


def blobproto_to_array(blob: caffe_pb2.BlobProto, return_diff: bool = False) -> np.ndarray:
    """The values (or the gradients) of a BlobProto in its shape."""
    if blob.HasField("raw_diff" if return_diff else "raw_data"):  # NVCaffe's
        arrays = _decoded(blob)
        values = arrays.diff if return_diff else arrays.data
        return np.array(values)
    name = ("double_diff" if blob.double_diff else "diff") if return_diff else "data"
    if name == "data" and not blob.data and blob.double_data:
        name = "double_data"
    values = np.array(getattr(blob, name))
    legacy = ("num", "channels", "height", "width")
    dims = [getattr(blob, side) for side in legacy] if any(map(blob.HasField, legacy)) else list(blob.shape.dim)
    if int(np.prod(dims)) != values.size:
        raise ArrayError(f"BlobProto: {values.size} values in {name}, but its shape is {dims}; expected as many")
    return values.reshape(dims)


def _decoded(blob: caffe_pb2.BlobProto) -> BlobArrays:
    data = blob.SerializeToString()
    return decode_blob(data, 0, len(data), "BlobProto")


def array_to_blobproto(arr: np.ndarray, diff: np.ndarray | None = None) -> caffe_pb2.BlobProto:
    """A BlobProto with the shape and values of ``arr``, and with ``diff`` as gradients."""
    blob = caffe_pb2.BlobProto()
    blob.shape.dim.extend(arr.shape)
    blob.data.extend(np.asarray(arr, float).ravel())
    if diff is not None:
        blob.diff.extend(np.asarray(diff, float).ravel())
    return blob


def arraylist_to_blobprotovector_str(arraylist: Iterable[np.ndarray]) -> bytes:
    """Arrays as the bytes of a BlobProtoVector."""
    vector = caffe_pb2.BlobProtoVector()
    vector.blobs.extend([array_to_blobproto(array) for array in arraylist])
    return vector.SerializeToString()


def blobprotovector_str_to_arraylist(str: bytes) -> list[np.ndarray]:
    """The arrays in the bytes of a BlobProtoVector."""
    return [blobproto_to_array(blob) for blob in caffe_pb2.BlobProtoVector.FromString(str).blobs]


def array_to_datum(arr: np.ndarray, label: int | None = None) -> caffe_pb2.Datum:
    """A Datum of an array (C, H, W): uint8 as bytes, anything else as floats."""
    if arr.ndim != 3:
        raise ArrayError(f"array_to_datum: the array has shape {arr.shape}; expected 3 axes (C, H, W)")
    datum = caffe_pb2.Datum(channels=arr.shape[0], height=arr.shape[1], width=arr.shape[2])
    if arr.dtype == np.uint8:
        datum.data = arr.tobytes()
    else:
        datum.float_data.extend(np.asarray(arr, float).ravel())
    if label is not None:
        datum.label = int(label)
    return datum


def datum_to_array(datum: caffe_pb2.Datum) -> np.ndarray:
    """The array (C, H, W) of a Datum: uint8 where it holds bytes, else floats.  An encoded image has to be decoded."""
    if datum.encoded:
        raise ArrayError("datum_to_array: the Datum holds an encoded image; decode its bytes, as with cv2.imdecode")
    values = np.frombuffer(datum.data, np.uint8) if datum.data else np.array(datum.float_data, float)
    shape = (datum.channels, datum.height, datum.width)
    if values.size != int(np.prod(shape)):
        raise ArrayError(f"datum_to_array: {values.size} values for shape {shape}; expected as many")
    return values.reshape(shape).copy()


# -- images -----------------------------------------------------------------------------


def load_image(filename: str | os.PathLike[str] | BinaryIO, color: bool = True) -> np.ndarray:
    """An image (H, W, 3), or without ``color`` (H, W, 1), from 0 to 1; an alpha channel is left out.

    ``filename``: or an open file, as BytesIO, that holds one.
    """
    import cv2  # here, because it is slow to load and a script may read no image

    name, content = _content(filename)
    image = None
    with suppress(cv2.error):
        image = cv2.imdecode(content, cv2.IMREAD_UNCHANGED)
    if image is None:
        raise DataError(f"{name}: cannot be read as an image; damaged, or something else")
    top = {"uint8": 255, "uint16": 65535}.get(image.dtype.name, 1)
    values: np.ndarray = image / top
    if values.ndim == 3:
        values = values[:, :, 2::-1]  # BGR and alpha to RGB
        if not color:
            values = values @ _LUMINANCE
    if values.ndim == 2:
        values = np.repeat(values[:, :, None], 3 if color else 1, axis=2)
    return np.ascontiguousarray(values, np.float32)


def _content(source: str | os.PathLike[str] | BinaryIO) -> tuple[str, np.ndarray]:
    """What an image file is called, and its bytes."""
    if not isinstance(source, str | os.PathLike):
        return getattr(source, "name", "the open file"), np.frombuffer(source.read(), np.uint8)
    if not Path(source).exists():
        raise MissingImageError(f"{os.fspath(source)}: no such image{seen_from(source)}")
    if Path(source).is_dir():
        raise DataError(f"{os.fspath(source)}: is a folder; expected an image")
    return os.fspath(source), np.fromfile(source, np.uint8)


def resize_image(im: np.ndarray, new_dims: Sequence[int] | np.ndarray, interp_order: int = 1) -> np.ndarray:
    """An image (H, W, C) in another size, by linear interpolation (``interp_order`` 0: the nearest pixel).

    With 1 or 3 channels the pixels are areas, and outside the image its smallest value counts, as in the scikit-image
    of Caffe's time; other arrays are stretched from corner to corner, as by SciPy's zoom.
    """
    if interp_order not in (0, 1):
        raise ArrayError(f"resize_image: interp_order is {interp_order}; expected 1 (linear) or 0 (nearest)")
    height, width = (int(size) for size in new_dims)
    if im.shape[-1] not in (1, 3):
        rows = _stretched(im.astype(float), 0, height, interp_order)
        return _stretched(rows, 1, width, interp_order).astype(np.float32)
    low, high = im.min(), im.max()
    if not high > low:
        return np.full((height, width, im.shape[-1]), low, np.float32)
    unit = ((im - low) / (high - low)).astype(float)
    resized = _scaled(_scaled(unit, 0, height, interp_order), 1, width, interp_order)
    result: np.ndarray = (resized * (high - low) + low).astype(np.float32)
    return result


def _scaled(image: np.ndarray, axis: int, size: int, order: int) -> np.ndarray:
    """Along one axis; pixel i covers i to i + 1, and outside there are zeros."""
    old = image.shape[axis]
    return _sampled(image, axis, (np.arange(size) + 0.5) * (old / size) - 0.5, order)


def _stretched(image: np.ndarray, axis: int, size: int, order: int) -> np.ndarray:
    """Along one axis; the first and last pixels stay where they are."""
    step = (image.shape[axis] - 1) / (size - 1) if size > 1 else 0.0
    return _sampled(image, axis, np.minimum(np.arange(size) * step, image.shape[axis] - 1), order)


def _sampled(image: np.ndarray, axis: int, places: np.ndarray, order: int) -> np.ndarray:
    old = image.shape[axis]
    shape = [1] * image.ndim
    shape[axis] = -1

    def pixels(index: np.ndarray) -> np.ndarray:
        inside = ((index >= 0) & (index < old)).reshape(shape)
        result: np.ndarray = np.take(image, index.clip(0, old - 1), axis) * inside
        return result

    if order == 0:
        return pixels(np.floor(places + 0.5).astype(int))
    first = np.floor(places).astype(int)
    part = (places - first).reshape(shape)
    result: np.ndarray = pixels(first) * (1 - part) + pixels(first + 1) * part
    return result


def oversample(images: Sequence[np.ndarray], crop_dims: Sequence[int] | np.ndarray) -> np.ndarray:
    """Ten crops (height, width) of each image: the corners and the centre, then their mirror images."""
    height, width = (int(size) for size in crop_dims)
    rows, columns, channels = images[0].shape
    corners = [(y, x) for y in (0, rows - height) for x in (0, columns - width)]
    places = [*corners, (int(rows / 2.0 - height / 2.0), int(columns / 2.0 - width / 2.0))]
    crops = np.empty((10 * len(images), height, width, channels), np.float32)
    for i, image in enumerate(images):
        for j, (y, x) in enumerate(places):
            crop = image[y : y + height, x : x + width]
            crops[10 * i + j] = crop
            crops[10 * i + 5 + j] = crop[:, ::-1]
    return crops


# -- what a net wants of an image --------------------------------------------------------


class Transformer:
    """Turns images into inputs of a net and back.

    ``inputs``: {name of an input blob: its shape (N, C, H, W)}.  What is not set is left out.
    """

    def __init__(self, inputs: Mapping[str, Sequence[int]]) -> None:
        self.inputs = {name: tuple(shape) for name, shape in inputs.items()}
        self.transpose: dict[str, Sequence[int]] = {}
        self.channel_swap: dict[str, Sequence[int]] = {}
        self.raw_scale: dict[str, float] = {}
        self.mean: dict[str, np.ndarray] = {}
        self.input_scale: dict[str, float] = {}

    def _check(self, in_: str) -> None:
        if in_ not in self.inputs:
            raise ArrayError(f"Transformer: {in_!r} is not one of the net's inputs: {', '.join(self.inputs)}")

    def preprocess(self, in_: str, data: np.ndarray) -> np.ndarray:
        """An image (H, W, C) as input ``in_`` wants it: resized, transposed, channels swapped, times ``raw_scale``,
        minus the mean, times ``input_scale``."""
        self._check(in_)
        value: np.ndarray = data.astype(np.float32, copy=False)
        size = self.inputs[in_][2:]
        if value.shape[:2] != size:
            value = resize_image(value, size)
        if in_ in self.transpose:
            value = value.transpose(self.transpose[in_])
        if in_ in self.channel_swap:
            value = value[list(self.channel_swap[in_])]
        if in_ in self.raw_scale:
            value = value * np.float32(self.raw_scale[in_])
        if in_ in self.mean:
            value = (value - self.mean[in_]).astype(np.float32)
        if in_ in self.input_scale:
            value = value * np.float32(self.input_scale[in_])
        return value

    def deprocess(self, in_: str, data: np.ndarray) -> np.ndarray:
        """The image of which ``preprocess`` has made ``data``, but for its size."""
        self._check(in_)
        value = data.copy().squeeze()
        if in_ in self.input_scale:
            value = value / self.input_scale[in_]
        if in_ in self.mean:
            value = value + self.mean[in_]
        if in_ in self.raw_scale:
            value = value / self.raw_scale[in_]
        if in_ in self.channel_swap:
            value = value[np.argsort(self.channel_swap[in_])]
        if in_ in self.transpose:
            value = value.transpose(np.argsort(self.transpose[in_]))
        result: np.ndarray = value.astype(data.dtype, copy=False)
        return result

    def set_transpose(self, in_: str, order: Sequence[int]) -> None:
        """The order of axes: (2, 0, 1) makes (C, H, W) of (H, W, C)."""
        self._check(in_)
        axes = len(self.inputs[in_]) - 1
        if len(order) != axes:
            raise ArrayError(f"Transformer: the transpose order {tuple(order)} has {len(order)} axes; expected {axes}")
        self.transpose[in_] = order

    def set_channel_swap(self, in_: str, order: Sequence[int]) -> None:
        """The order of channels after the transpose: (2, 1, 0) makes BGR of RGB."""
        self._check(in_)
        channels = self.inputs[in_][1]
        if len(order) != channels:
            raise ArrayError(f"Transformer: the channel order {tuple(order)} has {len(order)}; expected {channels}")
        self.channel_swap[in_] = order

    def set_raw_scale(self, in_: str, scale: float) -> None:
        """A factor before the mean is subtracted: 255 for nets that were trained on 0 to 255."""
        self._check(in_)
        self.raw_scale[in_] = scale

    def set_mean(self, in_: str, mean: np.ndarray) -> None:
        """What to subtract: a number for each channel, or an image (C, H, W), which is resized if need be."""
        self._check(in_)
        shape = self.inputs[in_][1:]
        mean = np.asarray(mean)
        if mean.ndim == 1:
            if len(mean) != shape[0]:
                raise ArrayError(f"Transformer: the mean has {len(mean)} channels; expected {shape[0]}")
            mean = mean[:, None, None]
        elif mean.ndim not in (2, 3):
            raise ArrayError(
                f"Transformer: the mean has shape {mean.shape}; expected {shape}, {shape[1:]} or {shape[:1]}"
            )
        elif (1, *mean.shape)[-3:] != shape:
            low, high = mean.min(), mean.max()
            unit = (mean.reshape((1, *mean.shape)[-3:]) - low) / (high - low)
            mean = resize_image(unit.transpose(1, 2, 0), shape[1:]).transpose(2, 0, 1) * (high - low) + low
        self.mean[in_] = mean

    def set_input_scale(self, in_: str, scale: float) -> None:
        """A factor after the mean has been subtracted."""
        self._check(in_)
        self.input_scale[in_] = scale
