"""Regions of interest: rows (R, 5) of image, x1, y1, x2, y2 in pixels of the image, and their bins on a feature map.

R: regions; N C H W: of the feature map; ph, pw: bins along its axes.
"""

import numpy as np
import torch
from torch import Tensor

from caffe_compat.layers.base import Layer, Shape, count
from caffe_compat.layers.shared.example import Array, Dice


def check_rois(layer: Layer, features: Shape, rois: Shape) -> None:
    """Raise NetError unless the bottoms are a feature map (N, C, H, W) and regions (R, 5)."""
    if len(features) != 4:
        layer.fail(f"bottom 0 has shape {features}; expected (N, C, H, W)")
    if not rois or count(rois, 1) != 5:
        layer.fail(f"bottom 1 has shape {rois}; expected (R, 5): image, x1, y1, x2, y2")


def images_of(layer: Layer, rois: Tensor, images: int) -> Tensor:
    """The image of each region (R,), an index; NetError where it is none of ``images``."""
    found = rois[:, 0].long()
    if bool(((found < 0) | (found >= images)).any()):
        layer.fail(f"a region's image is {int(found.min())} to {int(found.max())}; expected 0 to {images - 1}")
    return found


def round_half_away(values: Tensor) -> Tensor:
    """C's ``round``: to the nearest whole number, halves away from zero (PyTorch takes the even one)."""
    whole = values.trunc()
    return torch.where((values - whole).abs() == 0.5, whole + values.sign(), values.round())


class Bins:
    """Where bins begin and end: ``top``, ``bottom`` (R, ph) and ``left``, ``right`` (R, pw), ends excluded, clipped to
    the feature map."""

    def __init__(self, rows: tuple[Tensor, Tensor], columns: tuple[Tensor, Tensor], height: int, width: int) -> None:
        self.top, self.bottom = (edge.long().clamp(0, height) for edge in rows)
        self.left, self.right = (edge.long().clamp(0, width) for edge in columns)
        self.width = width

    def pixels(self) -> tuple[Tensor, Tensor, Tensor]:
        """All pixels of all bins, bin by bin: the bin (R ph pw of them) and the index h W + w of each, both (pixels,),
        and where each bin starts among them (R ph pw,)."""
        heights = (self.bottom - self.top).clamp(min=0).unsqueeze(2)
        widths = (self.right - self.left).clamp(min=0).unsqueeze(1)
        sizes = (heights * widths).flatten()
        starts = sizes.cumsum(0) - sizes
        bins = torch.arange(len(sizes), device=sizes.device).repeat_interleave(sizes)
        place = torch.arange(len(bins), device=sizes.device) - starts[bins]
        span = widths.expand(-1, heights.shape[1], -1).flatten()[bins]
        rows = self.top.unsqueeze(2).expand(-1, -1, widths.shape[2]).flatten()[bins] + place // span
        columns = self.left.unsqueeze(1).expand(-1, heights.shape[1], -1).flatten()[bins] + place % span
        return bins, rows * self.width + columns, starts


def random_rois(dice: Dice, features: Shape) -> Array:
    """Regions for ``Layer.example``, on an image of twice the features' size, some partly outside; corners are whole
    numbers, which no dtype rounds."""
    images, _, height, width = features
    number = dice.integer(1, 5)
    corners = dice.rng.integers(-2, [2 * width, 2 * height], (number, 2))
    ends = corners + dice.rng.integers(0, [2 * width, 2 * height], (number, 2))
    return np.column_stack((dice.rng.integers(0, images, number), corners, ends)).astype(np.float32)
