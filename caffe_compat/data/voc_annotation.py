"""The boxes of an image in an XML file of Pascal VOC or ILSVRC, and label maps."""

import os
import xml.etree.ElementTree as ET
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from caffe_compat.errors import DataError, ProtoError, reading
from caffe_compat.proto import caffe_pb2
from caffe_compat.proto.read import read_message

_CORNERS = ("xmin", "ymin", "xmax", "ymax")


class Box(NamedTuple):
    """A box: its label, (xmin, ymin, xmax, ymax) in parts of the image's width and height, whether it is difficult."""

    label: int
    edges: tuple[float, float, float, float]
    difficult: bool


def read_label_map(path: str | os.PathLike[str], *, unique: bool = False) -> dict[str, int]:
    """Numbers by names from a LabelMap in text form; DataError for a name given twice where they must be ``unique``."""
    found: dict[str, int] = {}
    for item in read_message(os.fspath(path), caffe_pb2.LabelMap()).item:
        if unique and item.name in found:
            raise DataError(f'{path}: name "{item.name}" is given twice; expected each once')
        found[item.name] = item.label
    return found


def read_voc(
    path: str | os.PathLike[str],
    image_size: tuple[int, int],
    labels: dict[str, int],
    warn: Callable[[str], None],
) -> list[Box]:
    """The objects of an annotation file, in order.

    ``image_size``: (height, width), for files that do not tell it; ``warn`` gets what is odd: boxes outside the image,
    other sizes.  Raises DataError when the file cannot be read, ProtoError for a name that ``labels`` lacks.
    """
    with reading(path, "an XML file of Pascal VOC", DataError):
        root = ET.parse(path).getroot()
    size = tuple(_number(root.find(f"size/{side}"), path) or 0 for side in ("height", "width"))
    if not all(size):
        warn(f"{path}: tells no size of its image; taken from the image")
        size = image_size
    elif size != image_size:
        has = f"{image_size[0]}x{image_size[1]}"
        warn(f"{path}: is for an image of {size[0]}x{size[1]} (height x width), which has {has}")
    return [_box(element, (size[0], size[1]), labels, path, warn) for element in root.findall("object")]


def _box(
    element: ET.Element,
    size: tuple[int, int],
    labels: dict[str, int],
    path: str | os.PathLike[str],
    warn: Callable[[str], None],
) -> Box:
    name = (element.findtext("name") or "").strip()
    if name not in labels:
        raise ProtoError(f'{path}: an object has the name "{name}", which the label map lacks; add it there')
    place = element.find("bndbox")
    corners = [_number(None if place is None else place.find(corner), path) or 0 for corner in _CORNERS]
    height, width = size
    limits = (width, height, width, height)
    if any(not 0 <= corner <= limit for corner, limit in zip(corners, limits, strict=True)):
        warn(f"{path}: a box, {corners}, exceeds the image of {height}x{width} (height x width)")
    if corners[0] > corners[2] or corners[1] > corners[3]:
        warn(f"{path}: a box, {corners}, has its edges in the wrong order")
    edges = [float(np.float32(corner) / np.float32(limit)) for corner, limit in zip(corners, limits, strict=True)]
    difficult = (element.findtext("difficult") or "").strip() == "1"
    return Box(labels[name], (edges[0], edges[1], edges[2], edges[3]), difficult)


def _number(element: ET.Element | None, path: str | os.PathLike[str]) -> int | None:
    """A whole number (a fraction is cut off), None where there is no element."""
    if element is None:
        return None
    try:
        return int(float(element.text or ""))
    except (ValueError, OverflowError):
        raise DataError(f"{path}: {element.tag} is {(element.text or '')[:20]!r}; expected a number") from None
