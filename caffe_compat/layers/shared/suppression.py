"""Greedy non-maximum suppression: which boxes stay of those that overlap, best first.

It runs on the host, where steps that depend on each other cost least.  Boxes come as NumPy arrays (K, 5): xmin, ymin,
xmax, ymax and the area, best first; K: boxes.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Array = npt.NDArray[Any]
Indices = npt.NDArray[np.int64]
#: overlaps of two sets of boxes with their five numbers along axis 0 and otherwise shapes that broadcast; ``first`` has
#: the better boxes
Overlap = Callable[[Array, Array], Array]

Result = TypeVar("Result")

# As many boxes are compared at a time, with those that stay of the better ones and then with each other.
BLOCK = 128


def with_areas(boxes: Array, *, pixels: bool = False) -> Array:
    """Boxes (K, 5) from their edges (K, 4); the area is 0 where a right or lower edge lies before the other.

    ``pixels``: edges are whole pixels that belong to the box, so that it is one wider and higher.
    """
    with np.errstate(all="ignore"):
        sides = boxes[:, 2:] - boxes[:, :2]
        turned = (sides < 0).any(1)
        sides = sides + 1 if pixels else sides
        areas = np.where(turned, 0, sides[:, 0] * sides[:, 1])
    return np.column_stack((boxes, areas)).astype(boxes.dtype, copy=False)


def jaccard(first: Array, second: Array) -> Array:
    """Intersection over union; 0 for boxes that only touch."""
    return over_union(common_area(first, second), first, second)


def pixel_jaccard(first: Array, second: Array) -> Array:
    """Intersection over union of boxes that are one pixel wider and higher than their edges say."""
    return over_union(common_area(first, second, pixel=1), first, second)


def over_union(shared: Array, first: Array, second: Array) -> Array:
    """``shared``, the area that boxes have in common, over the area of both."""
    union: Array = first[4] + second[4]
    union -= shared
    return np.divide(shared, union, out=union)


def common_area(first: Array, second: Array, pixel: int = 0) -> Array:
    """The area that boxes have in common; ``pixel``: 1 for boxes that are one wider and higher than their edges say."""
    sides: list[Array] = []
    for low, high in ((0, 2), (1, 3)):
        side = np.minimum(first[high], second[high])
        side -= np.maximum(first[low], second[low])
        if pixel:
            # Boxes apart by less than a pixel share nothing, either.
            apart = side < 0
            side += pixel
            side[apart] = 0
        else:
            np.maximum(side, 0, out=side)
        sides.append(side)
    sides[0] *= sides[1]
    return sides[0]


def suppress(
    boxes: Array,
    threshold: float,
    overlap: Overlap = jaccard,
    *,
    most: int | None = None,
    eta: float = 1.0,
    touching: bool = False,
) -> Indices:
    """Places, in rising order, of the boxes (K, 5) that stay: those that overlap with none that stays before them by
    more than ``threshold`` (``touching``: or as much).

    ``most``: stop after so many.  ``eta``: below 1, the threshold is multiplied by it after each box that stays, while
    it is above 0.5.  All is computed in the boxes' dtype.
    """
    most = len(boxes) if most is None else most
    columns, limit = np.array(boxes.T, order="C"), boxes.dtype.type(threshold)
    # An area of 0 over one of 0 is no overlap.
    np.maximum(columns[4], np.finfo(boxes.dtype).tiny, out=columns[4])
    with np.errstate(all="ignore"):
        if eta < 1:
            return _suppress_adaptively(columns, limit, overlap, most, boxes.dtype.type(eta))
        return _suppress_in_blocks(columns, limit, overlap, most, np.less if touching else np.less_equal)


def _suppress_in_blocks(columns: Array, limit: Any, overlap: Overlap, most: int, fits: Any) -> Indices:
    kept = np.empty(0, np.int64)
    for start in range(0, columns.shape[1], BLOCK):
        if len(kept) >= most:
            break
        places = np.arange(start, min(start + BLOCK, columns.shape[1]))
        if len(kept):
            places = places[fits(overlap(columns[:, kept, None], columns[:, None, places]), limit).all(0)]
        here = columns[:, places]
        stays = _first_stays(fits(overlap(here[:, :, None], here[:, None, :]), limit), most - len(kept))
        kept = np.concatenate((kept, places[stays]))
    return kept


def _first_stays(fits: npt.NDArray[np.bool_], most: int) -> list[int]:
    """The rows of a (B, B) table that stay: the first, then each that fits all that stay before it."""
    rows = np.packbits(fits, axis=1, bitorder="little")
    candidates, stays = (1 << len(fits)) - 1, list[int]()
    while candidates and len(stays) < most:
        place = (candidates & -candidates).bit_length() - 1
        stays.append(place)
        candidates &= int.from_bytes(rows[place].tobytes(), "little") & (-2 << place)
    return stays


def _suppress_adaptively(columns: Array, limit: Any, overlap: Overlap, most: int, eta: Any) -> Indices:
    kept: list[int] = []
    worst = np.zeros(columns.shape[1], columns.dtype)  # each box's largest overlap with one that stays
    for place in range(columns.shape[1]):
        if len(kept) == most:
            break
        if worst[place] <= limit:
            kept.append(place)
            worst = np.maximum(worst, overlap(columns[:, place, None], columns))
            limit = limit * eta if limit > 0.5 else limit
    return np.array(kept, np.int64)


def best_first(scores: Array, most: int = -1) -> Indices:
    """Places of ``scores`` (K,) from the highest on, equal ones in their order; ``most`` of them, -1 for all."""
    if 0 < most < len(scores):
        least = np.partition(scores, len(scores) - most)[len(scores) - most]
        chosen = np.flatnonzero(scores >= least)
        return chosen[np.argsort(-scores[chosen], kind="stable")][:most]
    order = np.argsort(-scores, kind="stable")
    return order if most < 0 else order[:most]


def on_host(work: Callable[..., Result], *tensors: Tensor) -> Result:
    """``work(*tensors)``, which looks at values: a graph break under ``torch.compile``."""
    if torch.compiler.is_compiling():
        # Not as a decorator: that would load torch._dynamo, two seconds for every program.
        result: Result = torch.compiler.disable(work)(*tensors)
        return result
    return work(*tensors)
