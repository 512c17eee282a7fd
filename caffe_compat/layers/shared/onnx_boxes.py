"""Boxes in an ONNX graph: SSD's offsets decoded, and suppression by NonMaxSuppression.

N: images; C: classes; P: boxes; M: those that stay.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from caffe_compat.layers.base import MAX_COUNT

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import Dim, OnnxGraph

FLT_MAX = float(np.finfo(np.float32).max)
LOWEST = -float("inf")


def decode(graph: "OnnxGraph", offsets: str, priors: str, variances: str | None, code_type: str) -> str:
    """``boxes.decode`` as nodes: (..., 4) each, in float32."""
    moves = graph.add("Mul", variances, offsets) if variances is not None else offsets
    if code_type == "CORNER":
        return graph.add("Add", priors, moves)
    first, last = halves(graph, priors)
    sides = graph.add("Sub", last, first)
    if code_type == "CORNER_SIZE":
        return graph.add("Add", priors, graph.add("Mul", moves, graph.add("Concat", sides, sides, axis=-1)))
    centers = graph.add("Div", graph.add("Add", first, last), graph.constant(2.0))
    place, growth = halves(graph, moves)
    centers = graph.add("Add", graph.add("Mul", place, sides), centers)
    half = graph.add("Div", graph.add("Mul", graph.add("Exp", growth), sides), graph.constant(2.0))
    return graph.add("Concat", graph.add("Sub", centers, half), graph.add("Add", centers, half), axis=-1)


def numbers(graph: "OnnxGraph", size: "Dim") -> str:
    """0, 1, 2, ... as floats (size,)."""
    zero, one = (graph.constant(number, np.int64) for number in (0, 1))
    return graph.to_float(graph.add("Range", zero, graph.add("Squeeze", graph.size(size), graph.sizes([0])), one))


def places(graph: "OnnxGraph", sizes: Sequence["Dim"]) -> list[str]:
    """The row and the column of each cell of a map (H, W), as floats (H, W, 1, 1) each."""
    rows, columns = (numbers(graph, size) for size in sizes)
    rows, columns = graph.unsqueeze(rows, [1, 2, 3]), graph.unsqueeze(columns, [0, 2, 3])
    # Added to zeros, as OpenCV does not work out the sizes of an Expand.
    return [graph.add("Add", *pair) for pair in ((rows, graph.scale(columns, 0.0)), (graph.scale(rows, 0.0), columns))]


def round_half_away(graph: "OnnxGraph", values: str) -> str:
    """``rois.round_half_away`` as nodes."""
    size = graph.add("Abs", values)
    whole = graph.add("Floor", size)
    up = graph.to_float(graph.add("GreaterOrEqual", graph.add("Sub", size, whole), graph.constant(0.5)))
    return graph.add("Mul", graph.add("Sign", values), graph.add("Add", whole, up))


def halves(graph: "OnnxGraph", boxes: str) -> list[str]:
    """The first and the last two of four numbers (..., 4).  OpenCV splits no constants."""
    return [graph.add("Gather", boxes, graph.sizes(places), axis=-1) for places in ([0, 1], [2, 3])]


def best_of_each(graph: "OnnxGraph", scores: str, most: int, boxes: "Dim") -> str:
    """scores (N, C, P), minus infinity but for each class's ``most`` best, of equal ones the first; P is ``boxes``."""
    if isinstance(boxes, int):
        if boxes <= most:
            return scores
        number = graph.sizes([most])
    else:
        number = graph.add("Min", graph.sizes([most]), graph.size(boxes))
    values, places = graph.add_many("TopK", [scores, number], 2, axis=2)
    nothing = graph.add("Expand", graph.constant(LOWEST), graph.add("Shape", scores))
    return graph.add("ScatterElements", nothing, places, values, axis=2)


def suppress(
    graph: "OnnxGraph", boxes: str, scores: str, threshold: float, *, least: float = LOWEST, most: int = MAX_COUNT
) -> str:
    """Which boxes (N, P, 4) stay for each class of scores (N, C, P): (M, 3) of image, class and box, in this order and
    then from the best score on; ``least``: scores are above it; ``most``: for each class.

    NonMaxSuppression takes the larger edge for the last, while a box that is turned inside out overlaps with none.
    """
    first, last = halves(graph, boxes)
    edges = graph.add("Concat", first, graph.add("Max", first, last), axis=-1)
    limits = [graph.constant(min(threshold, 1.0)), graph.constant(max(least, -FLT_MAX))]
    return graph.add("NonMaxSuppression", edges, scores, graph.sizes([most]), *limits)


def pick(graph: "OnnxGraph", values: str, kept: str, columns: list[int]) -> str:
    """``values`` at the indices in some ``columns`` of ``kept`` (M, 3)."""
    places = kept if columns == [0, 1, 2] else graph.add("Gather", kept, graph.sizes(columns), axis=1)
    return graph.add("GatherND", values, places)


def best_of_image(graph: "OnnxGraph", kept: str, scores: str, most: int, images: "Dim") -> str:
    """``kept`` (M, 3) with scores (M,), without all but each image's ``most`` best, of equal ones the first."""
    owner = graph.add("Gather", kept, graph.sizes([0]), axis=1)  # (M, 1)
    all_images = graph.unsqueeze(graph.to_index(numbers(graph, images)), [1])
    mine = graph.add("Equal", graph.add("Transpose", owner, perm=[1, 0]), all_images)
    table = graph.add("Where", mine, scores, graph.constant(LOWEST))  # (N, M)
    number = graph.add("Min", graph.sizes([most]), graph.add("Shape", scores))
    values, places = graph.add_many("TopK", [table, number], 2, axis=1)
    nothing = graph.add("Expand", graph.constant(LOWEST), graph.add("Shape", table))
    best = graph.add(
        "ReduceMax", graph.add("ScatterElements", nothing, places, values, axis=1), graph.sizes([0]), keepdims=0
    )
    return graph.choose(kept, graph.add("Greater", best, graph.constant(LOWEST)))
