"""What the YOLO output layers have in common: the rows of detections, and the boxes that stay (eric612's fork)."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from caffe_compat.layers.shared import suppression
from caffe_compat.layers.shared.suppression import Array

# image, label, score, xmin, ymin, xmax, ymax
ROW = 7


def detections(boxes: Tensor, scores: Tensor, labels: Tensor, threshold: float, images: int) -> Tensor:
    """(1, 1, detections, 7): image, label, score, xmin, ymin, xmax, ymax, best score first.

    ``boxes`` (K, 4): centre and size in parts of the image; ``scores`` and ``labels`` (K,), labels from 0, in the top
    from 1.  A box stays unless it overlaps with a better one, of whatever label or image, by ``threshold`` or more;
    equal scores keep their order.  The fork numbers all images 0.  Without a detection there is a row for each of
    ``images``: its number, then -1.
    """
    places = torch.from_numpy(suppression.best_first(scores.cpu().numpy())).to(boxes.device)
    boxes, scores, labels = boxes[places], scores[places], labels[places]
    located = _located(boxes)
    stay = torch.from_numpy(suppression.suppress(located, threshold, touching=True)).to(boxes.device)
    if not len(stay):
        rows = boxes.new_full((images, ROW), -1)
        rows[:, 0] = torch.arange(images)
        return rows.view(1, 1, -1, ROW)
    image = torch.zeros_like(scores[stay])
    columns = (image, labels[stay].to(scores.dtype) + 1, scores[stay])
    edges = torch.from_numpy(located[:, :4]).to(boxes.device)
    return torch.cat((torch.stack(columns, 1), edges[stay]), 1).view(1, 1, -1, ROW)


def region_rows(maps: Tensor, anchors: Sequence[float], classes: int, threshold: float, nms_threshold: float) -> Tensor:
    """(1, 1, detections, 7), image, label, score, x, y, width, height in parts of the image, as caffe-yolov2's
    DetectionOutput gives: ``maps`` (1, A (5 + classes), S, S), ``anchors`` 2 A widths and heights in cells.

    A box's score is sigmoid(objectness) times its best class' softmax; those of at least ``threshold`` are taken.
    Boxes go cell by cell, row by row, not by score: one that overlaps with a box *before* it by ``nms_threshold`` or
    more is left out, be it the better one.  Labels count from 0.  Without a detection there is one row: 0, then -1.
    """
    values = cells(maps, len(anchors) // 2)
    sizes = values[..., 2:4].exp() * torch.from_numpy(pairs(list(anchors))).to(maps) / maps.shape[3]
    best, label = values[..., 5 : 5 + classes].softmax(-1).max(-1)
    scores = values[..., 4].sigmoid() * best
    boxes, taken = torch.cat((centers(values), sizes), -1), scores >= threshold
    boxes, scores, label = boxes[taken], scores[taken], label[taken]
    stay = torch.from_numpy(suppression.suppress(_located(boxes), nms_threshold, touching=True)).to(maps.device)
    if not len(stay):
        return maps.new_tensor([0.0] + [-1.0] * (ROW - 1)).view(1, 1, 1, ROW)
    columns = (torch.zeros_like(scores[stay]), label[stay].to(scores.dtype), scores[stay])
    return torch.cat((torch.stack(columns, 1), boxes[stay]), 1).view(1, 1, -1, ROW)


def _located(boxes: Tensor) -> Array:
    """Edges and areas (K, 5) of boxes (K, 4) that have centres and sizes."""
    half = boxes[:, 2:] / 2
    located: Array = (
        torch.cat((boxes[:, :2] - half, boxes[:, :2] + half, boxes[:, 2:3] * boxes[:, 3:]), 1).cpu().numpy()
    )
    return located


def cells(maps: Tensor, boxes_per_cell: int) -> Tensor:
    """(N, A (5 + classes), H, W) -> (N, H, W, A, 5 + classes): x, y, w, h, objectness, classes of each of a cell's A
    boxes."""
    images, _, height, width = maps.shape
    return maps.view(images, boxes_per_cell, -1, height, width).permute(0, 3, 4, 1, 2)


def centers(values: Tensor) -> Tensor:
    """Centres (N, H, W, A, 2) in parts of the image: sigmoid(x, y) within the cell, then the cell's place."""
    height, width = values.shape[1:3]
    y, x = torch.meshgrid(
        torch.arange(height, dtype=values.dtype, device=values.device),
        torch.arange(width, dtype=values.dtype, device=values.device),
        indexing="ij",
    )
    place = torch.stack((x, y), -1).unsqueeze(2)
    return (place + values[..., :2].sigmoid()) / values.new_tensor([width, height])


def pairs(numbers: Array | list[float]) -> Array:
    """Widths and heights (A, 2) of anchors that a file lists one after the other."""
    return np.array(numbers, np.float64).reshape(-1, 2)
