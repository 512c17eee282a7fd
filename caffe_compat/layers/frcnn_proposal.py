"""FrcnnProposal: the regions that a region proposal network finds (Faster R-CNN in C++; makefile's fork)."""

from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from caffe_compat.layers.base import Shape
from caffe_compat.layers.proposal import Proposal
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Array, Dice, Example
from caffe_compat.layers.shared.fields import refuse_fields
from caffe_compat.layers.shared.onnx_proposals import proposal_nodes
from caffe_compat.layers.shared.proposals import ProposalRule

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph, OnnxStep

# The settings in the fork's examples/FRCNN/config/voc_config.json, which its scripts run its nets with; by phase:
# TRAIN, TEST.  (Two of its anchors are not what Faster R-CNN's formula gives.)
BEFORE, AFTER = (12000, 6000), (2000, 300)
THRESHOLD, LEAST_SIZE = 0.7, 16
ANCHORS = (
    *((-84, -40, 99, 55), (-176, -88, 191, 103), (-360, -184, 375, 100)),
    *((-56, -56, 71, 72), (-120, -120, 135, 135), (-248, -248, 263, 263)),
    *((-36, -80, 51, 95), (-80, -168, 95, 183), (-168, -344, 183, 359)),
)


@register("FrcnnProposal")
class FrcnnProposal(Proposal):
    """Bottoms scores (1, 2 A, H, W), offsets (1, 4 A, H, W) and image info (1, at least 3): height, width, scale ->
    tops regions (R, 5, 1, 1) and, if there is a second, their scores (R, 1, 1, 1).

    As Proposal, but that regions of a side below 16 pixels of the image before its scaling are left out.  The fork has
    all settings but ``feat_stride`` in a file of its own; here they are those of its voc_config.json, unless
    ``proposal_param`` has ``anchors`` (x1, y1, x2, y2 of each), ``pre_nms_topn``, ``post_nms_topn``, ``nms_thresh`` or
    ``min_size``.  Gradients: none.
    """

    def setup(self, scores: Shape, offsets: Shape, info: Shape) -> None:
        reason = "this layer has its anchors as numbers, in anchors"
        refuse_fields(self, *self.param_fields, "ratio", "scale", "base_size", because=reason)
        param = self.param.proposal_param
        phase = 0 if self.phase == "TRAIN" else 1
        anchors = np.array(list(param.anchors) or np.ravel(ANCHORS), np.float64)
        if len(anchors) % 4:
            self.fail(f"proposal_param.anchors are {len(anchors)} numbers; expected four for each")
        if not param.anchors:
            self.warn(
                "takes anchors and limits of the fork's voc_config.json, as its net has none; for others write "
                "proposal_param { anchors: ... pre_nms_topn: ... post_nms_topn: ... nms_thresh: ... min_size: ... }"
            )
        self.rule = ProposalRule(
            anchors=anchors.reshape(-1, 4),
            stride=float(param.feat_stride),
            least_size=float(param.min_size if param.HasField("min_size") else LEAST_SIZE),
            before=int(param.pre_nms_topn if param.HasField("pre_nms_topn") else BEFORE[phase]),
            after=int(param.post_nms_topn if param.HasField("post_nms_topn") else AFTER[phase]),
            threshold=float(param.nms_thresh if param.HasField("nms_thresh") else THRESHOLD),
            drop_small=True,
        )

    def infer_shapes(self, scores: Shape, offsets: Shape, info: Shape) -> list[Shape]:
        """One region, as the fork's set-up gives: how many there are, only the data knows."""
        super().infer_shapes(scores, offsets, info)
        if scores[0] != 1:
            self.fail(f"bottom 0 has shape {scores}; expected one image")
        tops: list[Shape] = [(1, 5, 1, 1), (1, 1, 1, 1)]
        return tops[: self.num_tops]

    def forward(self, scores: Tensor, offsets: Tensor, info: Tensor) -> Tensor | tuple[Tensor, ...]:
        tops = super().forward(scores, offsets, info.flatten(1)[:, :3])
        if isinstance(tops, Tensor):
            return tops.view(-1, 5, 1, 1)
        return tops[0].view(-1, 5, 1, 1), tops[1].view(-1, 1, 1, 1)

    def differs_from_opencv(self) -> str:
        return ""  # it did not read the type

    def to_onnx(self, graph: "OnnxGraph", step: "OnnxStep") -> list[str]:
        widths = (5, 1)
        return [
            graph.reshape(top, [-1, width, 1, 1])
            for top, width in zip(
                proposal_nodes(graph, step, self.rule, scales=1)[: self.num_tops], widths, strict=False
            )
        ]

    @classmethod
    def example(cls, dice: Dice) -> Example:
        height, width, number = dice.integer(1, 4), dice.integer(1, 4), dice.integer(1, 3)
        corners = [(-dice.integer(2, 20), -dice.integer(2, 20), dice.integer(17, 36), dice.integer(17, 36))] * number
        fields = " ".join(
            [
                *(f"anchors: {edge + 2 * place}" for place, box in enumerate(corners) for edge in box),
                f"pre_nms_topn: {dice.pick(5, 50)} post_nms_topn: {dice.pick(3, 20)} min_size: {dice.integer(1, 12)}",
                f"nms_thresh: {dice.number(0.3, 0.9)}",
            ]
        )
        info = np.array([[16 * height + 8, 16 * width + 8, 0]], np.float32) + dice.positive(1, 3)
        bottoms: list[Array] = [
            dice.positive(1, 2 * number, height, width),
            dice.normal(1, 4 * number, height, width) * np.float32(0.25),
            info,
        ]
        return Example(f"proposal_param {{ {fields} }}", bottoms, tops=dice.integer(1, 2))
