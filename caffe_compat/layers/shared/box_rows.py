"""What the layers of MS-CNN and Cascade R-CNN have in common that give boxes to the next stage."""

import numpy as np
import torch
from torch import Tensor

from caffe_compat.layers.base import Layer
from caffe_compat.layers.shared import suppression
from caffe_compat.layers.shared.suppression import Array

MODES = ("IOU", "IOMU", "IOFU")


def read_mode(layer: Layer, mode: str) -> str:
    """``nms_type``, what ``overlap_part`` takes; NetError for another."""
    if mode not in MODES:
        layer.fail(f'nms_type is "{mode}"; expected {", ".join(MODES)}')
    return mode


def overlap_part(shared: Array, first: Array, second: Array, mode: str) -> Array:
    """``shared``, the area that boxes have in common, over the area of both (IOU), of the smaller one (IOMU), or of the
    better one, ``first`` (IOFU)."""
    if mode == "IOU":
        return suppression.over_union(shared, first, second)
    part: Array = shared / (np.minimum(first[4], second[4]) if mode == "IOMU" else first[4])
    return part


def read_normalisation(layer: Layer) -> tuple[list[float], list[float]]:
    """Means and standard deviations of a box's four offsets: ``bbox_reg_param``, by default 0 and 1."""
    param = layer.param.bbox_reg_param
    mean, std = [float(value) for value in param.bbox_mean], [float(value) for value in param.bbox_std]
    if not mean or not std:
        return [0.0] * 4, [1.0] * 4
    if len(mean) != 4 or len(std) != 4 or min(std) <= 0:
        layer.fail(f"bbox_reg_param has bbox_mean {mean} and bbox_std {std}; expected 4 each, std above 0")
    return mean, std


def box_tops(rows: list[Array], number: int, like: Tensor) -> tuple[Tensor, ...]:
    """Tops (R, 5, 1, 1): image, x1, y1, x2, y2, and (R, 6, 1, 1), with the score; the first ``number`` of them.

    ``rows``: (boxes, 6) of each image.  Without a box there is one row: 0, 1, 1, 10, 10, and zeros with the score.
    """
    found = torch.from_numpy(np.concatenate(rows)).to(like)
    if len(found):
        return (found[:, :5, None, None], found[:, :, None, None])[:number]
    return (like.new_tensor([0, 1, 1, 10, 10]).view(1, 5, 1, 1), like.new_zeros(1, 6, 1, 1))[:number]
