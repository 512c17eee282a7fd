"""Proposal: the regions that a region proposal network finds (Faster R-CNN; the C++ layer of PVANET)."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from caffe_compat.layers.base import Layer, Shape, count
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared import onnx_boxes, suppression
from caffe_compat.layers.shared.example import Array, Dice, Example
from caffe_compat.layers.shared.proposals import ProposalRule, make_anchors, propose, round_half_up

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import Dim, OnnxGraph, OnnxStep


@register("Proposal")
class Proposal(Layer):
    """Bottoms scores (N, 2 A, H, W), offsets (N, 4 A, H, W) and image info (N or 1, at least 3) -> tops regions (R, 5)
    of image, x1, y1, x2, y2, and, if there is a second, their scores (R,).

    A: ``ratio`` by ``scale`` anchors on a square of ``base_size``, ``feat_stride`` apart; image info: height, width,
    scale of height and of width (or one scale for both); more values are not read.  Moved anchors are clipped to the
    image; the best ``pre_nms_topn``, and of them at most ``post_nms_topn`` that overlap by no more than
    ``nms_thresh``, are the regions.  One of a side below ``min_size`` times the scale has score 0.  Gradients: none.
    """

    param_fields = ("proposal_param",)
    bottom_count = (3, 3)
    top_count = (1, 2)
    tops_depend_on_data = True
    onnx_float32 = True
    graph_obstacle = "has tops whose sizes depend on the data"

    def setup(self, scores: Shape, offsets: Shape, info: Shape) -> None:
        param = self.param.proposal_param
        ratios, scales = [float(ratio) for ratio in param.ratio], [float(scale) for scale in param.scale]
        if not ratios or not scales or min(*ratios, *scales) <= 0:
            self.fail(f"proposal_param.ratio is {ratios} and scale {scales}; expected at least one of each, above 0")
        self.rule = ProposalRule(
            anchors=make_anchors(param.base_size, ratios, scales, round_half_up),
            stride=float(param.feat_stride),
            least_size=float(param.min_size),
            before=int(param.pre_nms_topn),
            after=int(param.post_nms_topn),
            threshold=float(param.nms_thresh),
            drop_small=False,
        )

    def infer_shapes(self, scores: Shape, offsets: Shape, info: Shape) -> list[Shape]:
        """As many regions as there can be, as PVANET's layer gives: how many there are, only the data knows."""
        number = len(self.rule.anchors)
        if len(scores) != 4 or len(offsets) != 4 or (scores[1], offsets[1]) != (2 * number, 4 * number):
            self.fail(
                f"bottoms have shapes {scores} and {offsets}; expected (N, {2 * number}, H, W) scores and "
                f"(N, {4 * number}, H, W) offsets for {number} anchors"
            )
        if not info or info[0] not in (1, scores[0]) or count(info, 1) < 3:
            self.fail(f"bottom 2 has shape {info}; expected (1, 4) or ({scores[0]}, 4): height, width and two scales")
        regions = scores[0] * self.rule.after
        return [(regions, 5), (regions,)][: self.num_tops]

    def forward(self, scores: Tensor, offsets: Tensor, info: Tensor) -> Tensor | tuple[Tensor, ...]:
        tops = suppression.on_host(self._propose, scores.detach(), offsets.detach(), info.detach().flatten(1)[:, :4])
        return (tops[:, :5], tops[:, 5]) if self.num_tops > 1 else tops[:, :5]

    def _propose(self, scores: Tensor, offsets: Tensor, info: Tensor) -> Tensor:
        regions, found = propose(scores, offsets, info, self.rule)
        return torch.cat((regions, found.unsqueeze(1)), 1)

    def data_sized(self) -> dict[int, int]:
        return dict.fromkeys(range(self.num_tops), 0)

    def to_onnx(self, graph: "OnnxGraph", step: "OnnxStep") -> list[str]:
        rule, number = self.rule, len(self.rule.anchors)
        images = step.size_of(0, 0)
        height, width, scales = self._onnx_image_info(graph, step)
        found = graph.add_many("Split", [step.bottoms[0], graph.sizes([number, number])], 2, axis=1)[1]
        scores = graph.reshape(graph.add("Transpose", found, perm=[0, 2, 3, 1]), [images, -1])
        first, last = self._onnx_moved(graph, step, images)
        limits = graph.unsqueeze(
            graph.add("Concat", *(graph.shift(size, -1.0) for size in (width, height)), axis=1), [1]
        )
        first, last = (
            graph.add("Max", graph.add("Min", corner, limits), graph.constant(0.0)) for corner in (first, last)
        )
        sides = graph.shift(graph.add("Sub", last, first), 1.0)
        least = graph.unsqueeze(graph.scale(scales, rule.least_size), [1])
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
            order_of, above = graph.add("Expand", places, graph.add("Shape", scores)), 0.0
            # Those of no place above 0 are left out.
            order_of = graph.add("Mul", order_of, large) if rule.drop_small else order_of
        alone = graph.unsqueeze(order_of, [1])
        kept = onnx_boxes.suppress(graph, pixels, alone, rule.threshold, least=above, most=rule.after)
        image = graph.to_float(graph.add("Gather", kept, graph.sizes([0]), axis=1))
        regions = graph.add("Concat", image, onnx_boxes.pick(graph, boxes, kept, [0, 2]), axis=1)
        return [regions, onnx_boxes.pick(graph, scores, kept, [0, 2])][: self.num_tops]

    def _onnx_image_info(self, graph: "OnnxGraph", step: "OnnxStep") -> tuple[str, str, str]:
        """Height (N or 1, 1), width (N or 1, 1) and the scales of width and height (N or 1, 2)."""
        values = count(step.bottom_shapes[2], 1)
        info = graph.reshape(step.bottoms[2], [step.size_of(2, 0), values])
        height, width = (graph.add("Gather", info, graph.sizes([i]), axis=1) for i in (0, 1))
        return height, width, graph.add("Gather", info, graph.sizes([min(values, 4) - 1, 2]), axis=1)

    def _onnx_moved(self, graph: "OnnxGraph", step: "OnnxStep", images: "Dim") -> tuple[str, str]:
        """The corners (N, K, 2) of all anchors, moved."""
        anchors = self._onnx_anchors(graph, step)
        moves = graph.reshape(graph.add("Transpose", step.bottoms[1], perm=[0, 2, 3, 1]), [images, -1, 4])
        first, last = onnx_boxes.halves(graph, anchors)
        sides = graph.shift(graph.add("Sub", last, first), 1.0)
        centers = graph.add("Add", first, graph.scale(sides, 0.5))
        place, growth = onnx_boxes.halves(graph, moves)
        centers = graph.add("Add", graph.add("Mul", place, sides), centers)
        half = graph.scale(graph.add("Mul", graph.add("Exp", growth), sides), 0.5)
        return graph.add("Sub", centers, half), graph.add("Add", centers, half)

    def _onnx_anchors(self, graph: "OnnxGraph", step: "OnnxStep") -> str:
        """(1, K, 4), of all cells."""
        anchors = self.rule.anchors
        if not step.varies(0, (2, 3)):
            sizes = (np.arange(size, dtype=np.float32) for size in step.bottom_shapes[0][2:])
            y, x = np.meshgrid(*sizes, indexing="ij")
            cells = np.stack((x, y, x, y), -1)[:, :, None] * np.float32(self.rule.stride)
            return graph.constant((cells + anchors.astype(np.float32)).reshape(1, -1, 4))
        down, across = onnx_boxes.places(graph, [step.size_of(0, axis) for axis in (2, 3)])
        corners = graph.scale(graph.add("Concat", across, down, across, down, axis=3), self.rule.stride)
        return graph.reshape(graph.add("Add", corners, graph.constant(anchors)), [1, -1, 4])

    @classmethod
    def example(cls, dice: Dice) -> Example:
        images, height, width = dice.integer(1, 2), dice.integer(1, 4), dice.integer(1, 4)
        ratios, scales = dice.integer(1, 2), dice.integer(1, 2)
        number = ratios * scales
        fields = " ".join(
            [
                *(f"ratio: {ratio}" for ratio in (0.5, 2)[:ratios]),
                *(f"scale: {scale}" for scale in (2, 4)[:scales]),
                f"pre_nms_topn: {dice.pick(5, 50)} post_nms_topn: {dice.pick(3, 20)}",
                f"nms_thresh: {dice.number(0.3, 0.9)}",
            ]
        )
        sizes = np.array([16 * height, 16 * width, 0, 0], np.float32)
        bottoms: list[Array] = [
            dice.positive(images, 2 * number, height, width),
            dice.normal(images, 4 * number, height, width) * np.float32(0.25),
            sizes + dice.positive(1, 4),
        ]
        return Example(f"proposal_param {{ {fields} }}", bottoms, tops=dice.integer(1, 2))
