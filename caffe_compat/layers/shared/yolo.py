"""What the YOLO output layers have in common: the rows of detections, and the boxes that stay (eric612's fork)."""

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
    half = boxes[:, 2:] / 2
    edges = torch.cat((boxes[:, :2] - half, boxes[:, :2] + half), 1)
    areas = boxes[:, 2:3] * boxes[:, 3:]
    located: Array = torch.cat((edges, areas), 1).cpu().numpy()
    stay = torch.from_numpy(suppression.suppress(located, threshold, touching=True)).to(boxes.device)
    if not len(stay):
        rows = boxes.new_full((images, ROW), -1)
        rows[:, 0] = torch.arange(images)
        return rows.view(1, 1, -1, ROW)
    image = torch.zeros_like(scores[stay])
    columns = (image, labels[stay].to(scores.dtype) + 1, scores[stay])
    return torch.cat((torch.stack(columns, 1), edges[stay]), 1).view(1, 1, -1, ROW)


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
