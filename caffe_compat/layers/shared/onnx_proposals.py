"""Proposals of a region proposal network as ONNX nodes: ``proposals.propose``.

A: anchors per cell; N H W: of the network's maps; K = H W A; R: regions.
"""

from typing import TYPE_CHECKING

import numpy as np

from caffe_compat.layers.base import count
from caffe_compat.layers.shared import onnx_boxes
from caffe_compat.layers.shared.proposals import ProposalRule

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph, OnnxStep


def proposal_nodes(graph: "OnnxGraph", step: "OnnxStep", rule: ProposalRule, scales: int = 2) -> list[str]:
    """Regions (R, 5) and their scores (R,) of a layer with bottoms scores, offsets and image info; ``scales``: how many
    the image info may have, one for both sides or two."""
    number = len(rule.anchors)
    images = step.size_of(0, 0)
    height, width, factors = _image_info(graph, step, scales)
    found = graph.add_many("Split", [step.bottoms[0], graph.sizes([number, number])], 2, axis=1)[1]
    scores = graph.reshape(graph.add("Transpose", found, perm=[0, 2, 3, 1]), [images, -1])
    first, last = _moved(graph, step, rule)
    limits = graph.unsqueeze(graph.add("Concat", *(graph.shift(size, -1.0) for size in (width, height)), axis=1), [1])
    first, last = (graph.add("Max", graph.add("Min", corner, limits), graph.constant(0.0)) for corner in (first, last))
    sides = graph.shift(graph.add("Sub", last, first), 1.0)
    least = graph.unsqueeze(graph.scale(factors, rule.least_size), [1])
    large = graph.add(
        "ReduceMin", graph.to_float(graph.add("GreaterOrEqual", sides, least)), graph.sizes([2]), keepdims=0
    )
    scores = graph.add("Mul", scores, large)
    boxes = graph.add("Concat", first, last, axis=2)
    if rule.before >= 0:
        if step.varies(0, (2, 3)):
            most = graph.add("Min", graph.sizes([rule.before]), graph.size(graph.size_at(scores, 1)))
        else:
            most = graph.sizes([min(rule.before, number * count(step.bottom_shapes[0], 2))])
        scores, order = graph.add_many("TopK", [scores, most], 2, axis=1)
        large = graph.add("GatherElements", large, order, axis=1)
        boxes = graph.add("GatherND", boxes, graph.unsqueeze(order, [2]), batch_dims=1)
    # NonMaxSuppression knows no pixels, which belong to a box.
    pixels = graph.add("Add", boxes, graph.constant([0.0, 0.0, 1.0, 1.0]))
    order_of, above = scores, onnx_boxes.LOWEST
    if rule.before >= 0:  # Best first: their places from the end, as OpenCV takes no threshold below 0.
        size = graph.size_at(scores, 1)
        places = graph.add("Sub", graph.to_float(graph.size(size)), onnx_boxes.numbers(graph, size))
        # Those of no place above 0 are left out.  (Without Expand, whose sizes OpenCV does not work out.)
        taken = large if rule.drop_small else graph.shift(graph.scale(large, 0.0), 1.0)
        order_of, above = graph.add("Mul", taken, places), 0.0
    alone = graph.unsqueeze(order_of, [1])
    kept = onnx_boxes.suppress(graph, pixels, alone, rule.threshold, least=above, most=rule.after)
    image = graph.to_float(graph.add("Gather", kept, graph.sizes([0]), axis=1))
    regions = graph.add("Concat", image, onnx_boxes.pick(graph, boxes, kept, [0, 2]), axis=1)
    return [regions, onnx_boxes.pick(graph, scores, kept, [0, 2])]


def _image_info(graph: "OnnxGraph", step: "OnnxStep", scales: int) -> tuple[str, str, str]:
    """Height (N or 1, 1), width (N or 1, 1) and the scales of width and height (N or 1, 2)."""
    values = count(step.bottom_shapes[2], 1)
    info = graph.reshape(step.bottoms[2], [step.size_of(2, 0), values])
    height, width = (graph.add("Gather", info, graph.sizes([i]), axis=1) for i in (0, 1))
    return height, width, graph.add("Gather", info, graph.sizes([min(values, 2 + scales) - 1, 2]), axis=1)


def _moved(graph: "OnnxGraph", step: "OnnxStep", rule: ProposalRule) -> tuple[str, str]:
    """The corners (N, K, 2) of all anchors, moved."""
    anchors = _anchors(graph, step, rule)
    moves = graph.reshape(graph.add("Transpose", step.bottoms[1], perm=[0, 2, 3, 1]), [step.size_of(0, 0), -1, 4])
    first, last = onnx_boxes.halves(graph, anchors)
    sides = graph.shift(graph.add("Sub", last, first), 1.0)
    centers = graph.add("Add", first, graph.scale(sides, 0.5))
    place, growth = onnx_boxes.halves(graph, moves)
    centers = graph.add("Add", graph.add("Mul", place, sides), centers)
    half = graph.scale(graph.add("Mul", graph.add("Exp", growth), sides), 0.5)
    return graph.add("Sub", centers, half), graph.add("Add", centers, half)


def _anchors(graph: "OnnxGraph", step: "OnnxStep", rule: ProposalRule) -> str:
    """(1, K, 4), of all cells."""
    anchors = rule.anchors
    if not step.varies(0, (2, 3)):
        sizes = (np.arange(size, dtype=np.float32) for size in step.bottom_shapes[0][2:])
        y, x = np.meshgrid(*sizes, indexing="ij")
        cells = np.stack((x, y, x, y), -1)[:, :, None] * np.float32(rule.stride)
        return graph.constant((cells + anchors.astype(np.float32)).reshape(1, -1, 4))
    down, across = onnx_boxes.places(graph, [step.size_of(0, axis) for axis in (2, 3)])
    corners = graph.scale(graph.add("Concat", across, down, across, down, axis=3), rule.stride)
    return graph.reshape(graph.add("Add", corners, graph.constant(anchors)), [1, -1, 4])
