"""Images and the files of their boxes to records of SSD's AnnotatedDatum, as its convert_annoset makes them."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field

import cv2
import numpy as np

from caffe_compat.data.annotations import encode_annotated
from caffe_compat.data.convert import ConvertOptions, encode_file, is_extension
from caffe_compat.data.datum import decode_image
from caffe_compat.data.image_list import check_new_size
from caffe_compat.data.image_step import Image
from caffe_compat.data.voc_annotation import Box, read_voc
from caffe_compat.proto import caffe_pb2


@dataclass(frozen=True)
class AnnotatedOptions(ConvertOptions):
    """The flags of convert_annoset."""

    min_dim: int = 0
    max_dim: int = 0
    labels: dict[str, int] = field(default_factory=dict)  # numbers of the names in annotation files
    boxes: bool = True  # else each image has one label
    root: str = ""  # put before the name of an annotation file


def make_annotated_record(
    path: str,
    label: str | int,
    options: AnnotatedOptions,
    read: Callable[[str], bytes],
    *,
    warn: Callable[[str], None],
) -> tuple[bytes, int]:
    """(AnnotatedDatum bytes, channels * height * width) of an image; the latter is 0 when it stays encoded.

    ``label``: the name of its annotation file, or its label.  An image without such a file has no boxes.  ``warn`` gets
    what is odd.  Raises DataError when one of them cannot be read.
    """
    data = read(path)
    original = np.asarray(decode_image(data, not options.gray, path), np.uint8)
    image = _resized(original, options, path)
    encoding = options.encode_type
    if options.encoded and not encoding:
        encoding = path.rpartition(".")[2].lower()
    height, width, channels = image.shape
    datum = caffe_pb2.Datum(channels=channels, height=height, width=width, encoded=bool(encoding))
    datum.label = -1 if options.boxes else int(label)
    if not encoding:
        datum.data = np.ascontiguousarray(image.transpose(2, 0, 1)).tobytes()
    elif image is original and is_extension(path, encoding):
        datum.data = data
    else:
        datum.data = encode_file(image, encoding, path)
    boxes: list[Box] = []
    file = f"{options.root}{label}"
    if options.boxes and os.path.exists(file):
        boxes = read_voc(file, (original.shape[0], original.shape[1]), options.labels, warn)
    record = encode_annotated(datum.SerializeToString(), boxes, "BBOX" if options.boxes else None)
    return record, 0 if encoding else image.size


def _resized(image: Image, options: AnnotatedOptions, path: str) -> Image:
    """By min_dim and max_dim, else to resize_height and resize_width, else as it is."""
    height, width, channels = image.shape
    size = options.resize_height, options.resize_width
    factor = np.float32(1)
    if options.min_dim > 0 or options.max_dim > 0:
        shorter, longer = min(height, width), max(height, width)
        if shorter < options.min_dim:
            factor = np.float32(options.min_dim) / np.float32(shorter)
        if 0 < options.max_dim < int(factor * np.float32(longer)):
            factor = np.float32(options.max_dim) / np.float32(longer)
        size = round(height * float(factor)), round(width * float(factor))
        if factor == 1:
            return image
    if size[0] < 1 or size[1] < 1:
        return image
    check_new_size(*size, channels, path)
    if factor != 1:
        resized = cv2.resize(image, (0, 0), fx=float(factor), fy=float(factor))
    else:
        resized = cv2.resize(image, size[::-1])
    return np.asarray(resized, np.uint8).reshape(*resized.shape[:2], channels)
