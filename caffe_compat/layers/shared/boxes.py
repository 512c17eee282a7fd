"""Boxes as SSD has them: their areas, overlaps, and offsets from prior boxes.

A box is xmin, ymin, xmax, ymax along the last axis of a tensor (..., 4), as a rule in parts of the image's width and
height; results have the dtype and device of what comes in.  Each step rounds where SSD's bbox_util.cpp rounds.

Offsets follow one of its code types (``PriorBoxParameter.CodeType``), of a box b from a prior p with variance v:

- CORNER: (b - p) / v for each corner
- CENTER_SIZE: ((centre(b) - centre(p)) / size(p) / v, log(size(b) / size(p)) / v)
- CORNER_SIZE: (b - p) / size(p) / v for each corner

Without variances (None) there is no division by v: ``variance_encoded_in_target``.
"""

from collections.abc import Callable

import torch
from torch import Tensor

# Boxes that share less than this share nothing when boxes are matched.
MIN_OVERLAP = 1e-6


def areas(boxes: Tensor, pixels: bool = False) -> Tensor:
    """Areas (...) of boxes (..., 4); 0 where a right or lower edge lies before the other.

    ``pixels``: edges are whole pixels that belong to the box, so that it is one wider and higher.
    """
    sides = boxes[..., 2:] - boxes[..., :2]
    turned = (sides < 0).any(-1)
    sides = sides + 1 if pixels else sides
    return torch.where(turned, 0, sides[..., 0] * sides[..., 1])


def overlaps(first: Tensor, second: Tensor, pixels: bool = False, areas_in_pixels: bool | None = None) -> Tensor:
    """Intersection over union of boxes, (..., 4) and (..., 4) that broadcast -> (...).

    For all pairs of (A, 4) and (B, 4): ``overlaps(a.unsqueeze(1), b.unsqueeze(0))``.  Boxes that only touch have 0.
    ``areas_in_pixels``: ``pixels`` for the boxes' own areas, where SSD counts these otherwise than what they share.
    """
    left, top, right, bottom = first.unbind(-1)  # edge by edge: pairs of numbers would be slow
    other_left, other_top, other_right, other_bottom = second.unbind(-1)
    width = torch.minimum(right, other_right) - torch.maximum(left, other_left)
    height = torch.minimum(bottom, other_bottom) - torch.maximum(top, other_top)
    if pixels:
        # SSD's intersection of boxes that are apart is (0, 0, 0, 0), which is one pixel.
        apart = (other_left > right) | (other_right < left) | (other_top > bottom) | (other_bottom < top)
        width, height = torch.where(apart, 0, width) + 1, torch.where(apart, 0, height) + 1
    shared = width * height
    whole = pixels if areas_in_pixels is None else areas_in_pixels
    union = areas(first, whole) + areas(second, whole) - shared
    return torch.where((width > 0) & (height > 0), shared / union, 0)


def clip(boxes: Tensor, width: float = 1.0, height: float = 1.0) -> Tensor:
    """Boxes with their edges moved into (0, 0, width, height)."""
    limits = boxes.new_tensor([width, height, width, height])
    return torch.minimum(boxes, limits).clamp(min=0)


def project(boxes: Tensor, frame: Tensor) -> tuple[Tensor, Tensor]:
    """Boxes (..., 4) as parts of a ``frame`` (4), clipped to it, and (...): whether something of each is inside."""
    sides = (frame[2:] - frame[:2]).repeat(2)
    inside = clip((boxes - frame[:2].repeat(2)) / sides)
    meets = ((boxes[..., :2] < frame[2:]) & (boxes[..., 2:] > frame[:2])).all(-1)
    return inside, meets & (areas(inside) > 0)


def coverage(boxes: Tensor, others: Tensor) -> Tensor:
    """The part of each box (..., 4) that lies in the other (..., 4), which broadcast -> (...)."""
    sides = torch.minimum(boxes[..., 2:], others[..., 2:]) - torch.maximum(boxes[..., :2], others[..., :2])
    shared = torch.where((sides > 0).all(-1), sides[..., 0] * sides[..., 1], 0)
    return torch.where(shared > 0, shared / areas(boxes), 0)


def encode(boxes: Tensor, priors: Tensor, variances: Tensor | None, code_type: str) -> Tensor:
    """Offsets of boxes (..., 4) from priors (..., 4); ``variances`` (..., 4) or None.

    ``code_type``: CORNER, CENTER_SIZE or CORNER_SIZE.  A prior without width or height gives no finite numbers (SSD
    stops there).
    """
    offsets = _ENCODERS[code_type](boxes, priors)
    return offsets if variances is None else offsets / variances


def decode(offsets: Tensor, priors: Tensor, variances: Tensor | None, code_type: str) -> Tensor:
    """Boxes (..., 4) from offsets (..., 4), the inverse of ``encode``; not clipped."""
    return _DECODERS[code_type](offsets if variances is None else variances * offsets, priors)


def _centers(boxes: Tensor) -> Tensor:
    return (boxes[..., :2] + boxes[..., 2:]) / 2


def _sides(boxes: Tensor) -> Tensor:
    return boxes[..., 2:] - boxes[..., :2]


def _both_sides(boxes: Tensor) -> Tensor:
    """Width, height, width, height: what each corner is divided by."""
    sides = _sides(boxes)
    return torch.cat((sides, sides), -1)


def _encode_center_size(boxes: Tensor, priors: Tensor) -> Tensor:
    sides = _sides(priors)
    return torch.cat(((_centers(boxes) - _centers(priors)) / sides, (_sides(boxes) / sides).log()), -1)


def _decode_center_size(offsets: Tensor, priors: Tensor) -> Tensor:
    sides = _sides(priors)
    centers = offsets[..., :2] * sides + _centers(priors)
    half = offsets[..., 2:].exp() * sides / 2
    return torch.cat((centers - half, centers + half), -1)


_Coder = Callable[[Tensor, Tensor], Tensor]

_ENCODERS: dict[str, _Coder] = {
    "CORNER": lambda boxes, priors: boxes - priors,
    "CENTER_SIZE": _encode_center_size,
    "CORNER_SIZE": lambda boxes, priors: (boxes - priors) / _both_sides(priors),
}
_DECODERS: dict[str, _Coder] = {
    "CORNER": lambda offsets, priors: priors + offsets,
    "CENTER_SIZE": _decode_center_size,
    "CORNER_SIZE": lambda offsets, priors: priors + offsets * _both_sides(priors),
}
