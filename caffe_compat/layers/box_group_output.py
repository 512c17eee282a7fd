"""BoxGroupOutput: proposals from maps of several anchors and scales (Cascade R-CNN, Cai and Vasconcelos 2018)."""

import math
from functools import partial

import numpy as np
import torch
from torch import Tensor

from caffe_compat.layers.base import Layer, Shape
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared import suppression
from caffe_compat.layers.shared.box_rows import MODES, box_tops, overlap_part, read_mode, read_normalisation
from caffe_compat.layers.shared.example import Dice, Example
from caffe_compat.layers.shared.suppression import Array


def _overlap(first: Array, second: Array, mode: str) -> Array:
    shared = suppression.common_area(first, second, pixel=1)
    # In the fork, boxes that have a single row of pixels in common, have nothing.
    shared[np.minimum(first[3], second[3]) <= np.maximum(first[1], second[1])] = 0
    return overlap_part(shared, first, second, mode)


@register("BoxGroupOutput")
class BoxGroupOutput(Layer):
    """Pairs of bottoms, probabilities (N G, C, H, W), of which the first is the background's, and offsets (N G, 4, H,
    W) -> tops regions (R, 5, 1, 1): image, x1, y1, x2, y2, and, if there is a second, the same with the score
    (R, 6, 1, 1).

    Each pair has its ``box_group_param``: G anchors, ``field_w`` by ``field_h`` pixels, around cells of ``stride``
    pixels.  Offsets are multiplied by ``bbox_reg_param``'s standard deviations, its means added; an anchor is moved by
    x and y in parts of its size (at most 1 / ``field_xyr``) and scaled by exp(w), exp(h) (from 1 / ``field_whr`` to
    ``field_whr``), and clipped to the image.  Boxes that are not background with at least ``fg_thr`` and whose sides
    are at least ``min_size`` are taken, best first, equal ones in their order: at most ``max_nms_num``; of them those
    that overlap with no better one by more than ``iou_thr`` (``nms_type``: over the union, the smaller (IOMU), the
    better box (IOFU)); at most ``max_post_nms_num``.

    Without a box there is one row: 0, 1, 1, 10, 10, and zeros with the score.  Gradients: none.
    """

    param_fields = ("box_group_output_param", "bbox_reg_param")
    onnx_obstacle = "a choice of boxes has a form for DetectionOutput and Proposal only"
    bottom_count = (2, None)
    top_count = (1, 2)
    tops_depend_on_data = True
    graph_obstacle = "has tops whose sizes depend on the data"

    def setup(self, *bottoms: Shape) -> None:
        param = self.param.box_group_output_param
        if 2 * len(param.box_group_param) != len(bottoms):
            self.fail(
                f"has {len(bottoms)} bottoms and {len(param.box_group_param)} box_group_param; expected half as many"
            )
        self.groups: list[tuple[Array, int]] = []
        for group in param.box_group_param:
            if not group.field_w or len(group.field_w) != len(group.field_h) or group.stride < 1:
                self.fail("a box_group_param has no stride, or not as many field_w as field_h, at least one")
            self.groups.append((np.array([group.field_w, group.field_h], np.float64).T, int(group.stride)))
        self.overlap = partial(_overlap, mode=read_mode(self, str(param.nms_type)))
        self.least_score, self.most_overlap = float(param.fg_thr), float(param.iou_thr)
        self.least_size = float(param.min_size)
        self.before, self.after = int(param.max_nms_num) or -1, int(param.max_post_nms_num) or None
        self.most_move, self.most_scale = 1 / param.field_xyr, math.log(param.field_whr)
        self.mean, self.std = read_normalisation(self)

    def infer_shapes(self, *bottoms: Shape) -> list[Shape]:
        """One row, as the fork gives: how many there are, only the data knows."""
        for i, (fields, _) in enumerate(self.groups):
            scores, offsets = bottoms[2 * i], bottoms[2 * i + 1]
            anchors = len(fields)
            images = bottoms[0][0] // len(self.groups[0][0]) if bottoms[0] else 0
            if len(scores) != 4 or offsets != (scores[0], 4, *scores[2:]) or scores[0] != images * anchors:
                self.fail(
                    f"bottoms {2 * i} and {2 * i + 1} have shapes {scores} and {offsets}; expected "
                    f"({images * anchors}, C, H, W) and (the same, 4, H, W): {images} images, {anchors} anchors"
                )
        return [(1, 5 + i, 1, 1) for i in range(self.num_tops)]

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        return suppression.on_host(self._detect, *(bottom.detach() for bottom in bottoms))

    def _detect(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        decoded = [
            self._decode(bottoms[2 * i], bottoms[2 * i + 1], torch.from_numpy(fields).to(bottoms[0]), stride)
            for i, (fields, stride) in enumerate(self.groups)
        ]
        found = torch.cat(decoded, 1).cpu().numpy()  # (N, boxes, 5): edges, score
        return box_tops([self._rows(i, found[i]) for i in range(len(found))], self.num_tops, bottoms[0])

    def _decode(self, scores: Tensor, offsets: Tensor, fields: Tensor, stride: int) -> Tensor:
        """(N, G H W, 5): edges in pixels, clipped, and the score; ``fields`` (G, 2)."""
        anchors, (height, width) = len(fields), scores.shape[2:]
        y, x = torch.meshgrid(
            torch.arange(height, dtype=scores.dtype, device=scores.device),
            torch.arange(width, dtype=scores.dtype, device=scores.device),
            indexing="ij",
        )
        moves = offsets.view(-1, anchors, 4, height, width).movedim(2, -1)  # (N, G, H, W, 4)
        moves = moves * scores.new_tensor(self.std) + scores.new_tensor(self.mean)
        field = fields.view(1, anchors, 1, 1, 2)
        centers = moves[..., :2].clamp(-self.most_move, self.most_move) * field
        centers = centers + (torch.stack((x, y), -1) + 0.5) * stride
        sides = field * moves[..., 2:].clamp(-self.most_scale, self.most_scale).exp()
        first = centers - sides / 2
        last = torch.minimum(first + sides - 1, scores.new_tensor([width * stride, height * stride]))
        score = (1 - scores[:, 0]).view(-1, anchors, height, width, 1)
        return torch.cat((first.clamp(min=0), last, score), -1).flatten(1, 3)

    def _rows(self, image: int, found: Array) -> Array:
        large = (found[:, 2:4] - found[:, :2] + 1 >= self.least_size).all(1)
        found = found[(found[:, 4] >= self.least_score) & large]
        found = found[suppression.best_first(found[:, 4], self.before)]
        boxes = suppression.with_areas(found[:, :4], pixels=True)
        stay = suppression.suppress(boxes, self.most_overlap, self.overlap, most=self.after)
        return np.column_stack((np.full(len(stay), image), found[stay]))

    @classmethod
    def example(cls, dice: Dice) -> Example:
        images, groups = dice.integer(1, 2), dice.integer(1, 2)
        fields, bottoms = [], []
        for i in range(1, groups + 1):
            anchors, height, width = dice.integer(1, 3), dice.integer(1, 3), dice.integer(1, 3)
            sizes = " ".join(f"field_w: {16 * i + 4 * k} field_h: {20 * i + k}" for k in range(anchors))
            fields.append(f"box_group_param {{ stride: {8 * i} {sizes} }}")
            bottoms.append(dice.probabilities(images * anchors, 3, height, width))
            bottoms.append(dice.normal(images * anchors, 4, height, width))
        numbers = f"fg_thr: {dice.number(0.2, 0.9)} iou_thr: {dice.number(0.2, 0.7)} max_nms_num: {dice.pick(0, 5)}"
        rest = f'nms_type: "{dice.pick(*MODES)}" max_post_nms_num: {dice.pick(0, 3)} min_size: 5'
        text = f"box_group_output_param {{ {' '.join(fields)} {numbers} {rest} }}"
        return Example(text, bottoms, tops=dice.integer(1, 2))
