"""Proposal: the regions that a region proposal network finds (Faster R-CNN; the C++ layer of PVANET)."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from caffe_compat.layers.base import Layer, Shape, count
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared import suppression
from caffe_compat.layers.shared.example import Array, Dice, Example
from caffe_compat.layers.shared.onnx_proposals import proposal_nodes
from caffe_compat.layers.shared.proposals import ProposalRule, make_anchors, propose, round_half_up

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph, OnnxStep


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

    def differs_from_opencv(self) -> str:
        return (
            "regions below min_size have score 0, and there are as many rows as regions, where OpenCV 4 had no least "
            "size and post_nms_topn rows, the last ones zeros"
        )

    def to_onnx(self, graph: "OnnxGraph", step: "OnnxStep") -> list[str]:
        return proposal_nodes(graph, step, self.rule)[: self.num_tops]

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
