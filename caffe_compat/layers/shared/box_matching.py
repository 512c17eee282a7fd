"""Which ground truth each prior box stands for, and which boxes survive non-maximum suppression: SSD's rules.

P G in shape comments: predictions (or priors), ground-truth boxes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from caffe_compat.layers.shared.boxes import MIN_OVERLAP, areas, overlaps

UNMATCHED, IGNORED = -1, -2
_SMALLEST_AREA = 1e-5  # smaller boxes do not take part in SSD's suppression


def match(shared: Tensor, threshold: float | None, ignored: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """``shared`` (P, G), the overlaps -> (P) number of the truth of each prediction, UNMATCHED or IGNORED, and (P) the
    overlap with it, or the largest.

    First each truth takes a prediction, in the order of the largest overlaps; equal ones go to the lower numbers.
    With a ``threshold`` (PER_PREDICTION), a prediction that is left takes the truth with which it overlaps most, from
    ``threshold`` on.  ``ignored`` (P): predictions that take no part.
    """
    shared = torch.where(shared > MIN_OVERLAP, shared, 0)
    places = torch.full(shared.shape[:1], UNMATCHED, device=shared.device)
    if ignored is not None:
        shared = torch.where(ignored.unsqueeze(1), 0, shared)
        places = torch.where(ignored, IGNORED, places)
    truths = shared.shape[1]
    if not truths or not len(shared):
        return places, shared.new_zeros(len(shared))
    largest, nearest = shared.max(1)
    free = shared.clone()
    for _ in range(truths):  # without a look at values, so that nothing waits for a GPU
        flat = free.argmax()
        prediction, truth = flat // truths, flat % truths
        overlap = free[prediction, truth]
        places[prediction] = torch.where(overlap > 0, truth, places[prediction])
        largest[prediction] = torch.where(overlap > 0, overlap, largest[prediction])
        free[prediction] = 0
        free[:, truth] = 0
    if threshold is not None:
        most = shared.amax(1)
        near = (places == UNMATCHED) & (most >= threshold) & (most > 0)
        places = torch.where(near, nearest, places)
    return places, largest


def suppress(boxes: Tensor, scores: Tensor, threshold: float, top_k: int) -> Sequence[int]:
    """The numbers of the boxes (P, 4) that stay, the highest score (P) first.

    Of the ``top_k`` highest scores (-1: of all), a box goes when it overlaps one that stays by more than ``threshold``,
    or when it is very small.
    """
    order = torch.sort(scores, descending=True, stable=True).indices
    order = order[:top_k] if top_k > -1 else order
    order = order[areas(boxes[order]) >= _SMALLEST_AREA]
    kept = []
    while len(order):
        best = order[0]
        kept.append(int(best))
        order = order[1:][overlaps(boxes[best], boxes[order[1:]]) <= threshold]
    return kept
