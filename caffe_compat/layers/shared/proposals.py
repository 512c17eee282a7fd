"""Proposals of a region proposal network: anchors moved by offsets, the best of them that overlap little (Faster R-CNN,
Ren et al. 2015).

A: anchors per cell; N H W: of the network's maps; K = H W A.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from caffe_compat.layers.shared import suppression
from caffe_compat.layers.shared.suppression import Array

#: of anchors' sides
Rounding = Callable[[Array], Array]


@dataclass(frozen=True)
class ProposalRule:
    """Sizes in pixels of the network's input.

    ``anchors``: (A, 4) around the first cell.  ``stride``: cells' distance.  ``least_size``: of a proposal's width and
    height, times the image's scale.  ``before`` and ``after``: most proposals before and after suppression (``before``
    -1: all).  ``threshold``: largest overlap of two of them.  ``drop_small``: proposals that are too small are left
    out; else they have score 0, as in the C++ layer, and are among the others where there are not enough.
    """

    anchors: Array
    stride: float
    least_size: float
    before: int
    after: int
    threshold: float
    drop_small: bool


def round_half_up(values: Array) -> Array:
    """The C++ layer's rounding: to the nearest whole number, halves upwards."""
    result: Array = np.floor(values + 0.5)
    return result


def make_anchors(base: float, ratios: Sequence[float], scales: Sequence[float], rounding: Rounding = np.round) -> Array:
    """Anchors (A, 4) in float64, by ratio and then by scale, around the middle of a square of side ``base`` from 0.

    A ratio (height over width) keeps the square's area up to the rounding of width and then height; a scale multiplies
    both.  Pixels belong to a box: one of width 16 goes from 0 to 15.
    """
    width = rounding(np.sqrt(base * base / np.array(ratios, np.float64)))
    height = rounding(width * np.array(ratios, np.float64))
    sides = np.stack((width, height), -1)[:, None] * np.array(scales, np.float64)[None, :, None]
    half, center = (sides.reshape(-1, 2) - 1) / 2, (base - 1) / 2
    return np.concatenate((center - half, center + half), 1)


def propose(scores: Tensor, offsets: Tensor, image_info: Tensor, rule: ProposalRule) -> tuple[Tensor, Tensor]:
    """Regions (R, 5), of image, x1, y1, x2, y2, and their scores (R,), best first for each image.

    ``scores`` (N, 2 A, H, W): of background, then of objects; ``offsets`` (N, 4 A, H, W): of the centre in parts of
    the anchor's size, and logarithms of the sizes' quotients; ``image_info`` (N or 1, 3 or 4): height, width and scale
    of the network's input, or its scales of height and of width.  Equal scores keep their order, row by row of cells.
    """
    images, number = scores.shape[0], len(rule.anchors)
    found = scores[:, number:].permute(0, 2, 3, 1).reshape(images, -1).cpu().numpy()
    moved = _moved(offsets, rule).reshape(images, -1, 4)
    regions, kept_scores = [], []
    for i, info in enumerate(image_info.reshape(-1, image_info.shape[-1]).expand(images, -1).cpu().numpy()):
        limits = torch.from_numpy(info[[1, 0, 1, 0]] - 1).to(moved.device, moved.dtype)
        edges = torch.minimum(moved[i], limits).clamp(min=0).cpu().numpy()
        sides = edges[:, 2:] - edges[:, :2] + 1
        large = (sides >= rule.least_size * info[[-1, 2]]).all(1)
        values = found[i] * large
        if rule.drop_small:
            edges, values = edges[large], values[large]
        order = suppression.best_first(values, rule.before)
        boxes = suppression.with_areas(edges[order], pixels=True)
        stay = order[suppression.suppress(boxes, rule.threshold, suppression.pixel_jaccard, most=rule.after)]
        regions.append(np.column_stack((np.full(len(stay), i), edges[stay])))
        kept_scores.append(values[stay])
    kept = torch.from_numpy(np.concatenate(regions)), torch.from_numpy(np.concatenate(kept_scores))
    return kept[0].to(scores.device, scores.dtype), kept[1].to(scores.device, scores.dtype)


def _moved(offsets: Tensor, rule: ProposalRule) -> Tensor:
    """Anchors of all cells moved by ``offsets`` (N, 4 A, H, W): (N, H, W, A, 4)."""
    images, _, height, width = offsets.shape
    places = (torch.arange(size, dtype=offsets.dtype, device=offsets.device) for size in (height, width))
    y, x = torch.meshgrid(*places, indexing="ij")
    cells = torch.stack((x, y, x, y), -1).unsqueeze(2) * rule.stride
    anchors = cells + torch.from_numpy(rule.anchors).to(offsets)
    sides = anchors[..., 2:] - anchors[..., :2] + 1
    centers = anchors[..., :2] + 0.5 * sides
    moves = offsets.permute(0, 2, 3, 1).reshape(images, height, width, -1, 4)
    centers = moves[..., :2] * sides + centers
    half = 0.5 * (moves[..., 2:].exp() * sides)
    return torch.cat((centers - half, centers + half), -1)
