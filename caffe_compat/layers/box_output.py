"""BoxOutput: proposals from the maps of several scales (MS-CNN, Cai et al. 2016)."""

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
    return overlap_part(suppression.common_area(first, second), first, second, mode)


@register("BoxOutput")
class BoxOutput(Layer):
    """Bottoms (N, C + 4, H, W), each of its scale: scores of background and C - 1 classes, then x, y, w, h -> tops
    regions (R, 5, 1, 1): image, x1, y1, x2, y2, and, if there is a second, the same with the score (R, 6, 1, 1).

    A cell is ``downsample_rate`` pixels wide, its box ``field_w`` by ``field_h``, moved by x and y in parts of them (at
    most 1 / ``field_xyr``) and scaled by exp(w), exp(h) (from 1 / ``field_whr`` to ``field_whr``), after
    ``bbox_reg_param``'s standard deviations and means; it is clipped to the image.  Boxes whose best class' score is
    above the background's by ``fg_thr`` and whose sides are at least ``min_size`` are taken, best first: at most
    ``max_nms_num``; of them those that overlap with no better one by more than ``iou_thr`` (``nms_type``: over the
    union, the smaller (IOMU), the better box (IOFU)); at most ``max_post_nms_num``.

    Without a box there is one row: 0, 1, 1, 10, 10, and zeros with the score.  Gradients: none.
    """

    param_fields = ("box_output_param", "bbox_reg_param")
    onnx_obstacle = "a choice of boxes has a form for DetectionOutput and Proposal only"
    bottom_count = (1, None)
    top_count = (1, 2)
    tops_depend_on_data = True
    graph_obstacle = "has tops whose sizes depend on the data"

    def setup(self, *maps: Shape) -> None:
        param = self.param.box_output_param
        self.fields = [
            (float(w), float(h), float(rate))
            for w, h, rate in zip(param.field_w, param.field_h, param.downsample_rate, strict=False)
        ]
        lengths = [len(param.field_w), len(param.field_h), len(param.downsample_rate)]
        if lengths != [len(maps)] * 3:
            self.fail(
                f"has {len(maps)} bottoms, and field_w, field_h, downsample_rate {lengths} times; expected as many"
            )
        self.overlap = partial(_overlap, mode=read_mode(self, str(param.nms_type)))
        self.least_score, self.most_overlap = float(param.fg_thr), float(param.iou_thr)
        self.least_size = float(param.min_size)
        self.before, self.after = int(param.max_nms_num) or -1, int(param.max_post_nms_num) or None
        self.most_move, self.most_scale = 1 / param.field_xyr, math.log(param.field_whr)
        self.mean, self.std = read_normalisation(self)

    def infer_shapes(self, *maps: Shape) -> list[Shape]:
        """One row, as the fork gives: how many there are, only the data knows."""
        for shape in maps:
            if len(shape) != 4 or shape[:2] != maps[0][:2] or shape[1] < 6:
                self.fail(
                    f"bottoms have shapes {', '.join(map(str, maps))}; expected (N, C + 4, H, W), at least 2 classes"
                )
        return [(1, 5 + i, 1, 1) for i in range(self.num_tops)]

    def forward(self, *maps: Tensor) -> tuple[Tensor, ...]:
        return suppression.on_host(self._detect, *(values.detach() for values in maps))

    def _detect(self, *maps: Tensor) -> tuple[Tensor, ...]:
        decoded = [self._decode(values, *field) for values, field in zip(maps, self.fields, strict=True)]
        found = torch.cat(decoded, 1).cpu().numpy()  # (N, boxes, 5): x, y, w, h, score
        return box_tops([self._rows(i, found[i]) for i in range(len(found))], self.num_tops, maps[0])

    def _decode(self, values: Tensor, field_w: float, field_h: float, rate: float) -> Tensor:
        """(N, H W, 5): x, y, w, h in pixels, clipped, and the score."""
        height, width = values.shape[2:]
        y, x = torch.meshgrid(
            torch.arange(height, dtype=values.dtype, device=values.device),
            torch.arange(width, dtype=values.dtype, device=values.device),
            indexing="ij",
        )
        scores = values[:, 1:-4].amax(1) - values[:, 0]
        moves = values[:, -4:].movedim(1, -1) * values.new_tensor(self.std) + values.new_tensor(self.mean)
        field = values.new_tensor([field_w, field_h])
        centers = moves[..., :2].clamp(-self.most_move, self.most_move) * field
        centers = centers + (torch.stack((x, y), -1) + 0.5) * rate
        sides = field * moves[..., 2:].clamp(-self.most_scale, self.most_scale).exp()
        corners = (centers - sides / 2).clamp(min=0)
        sides = torch.minimum(sides, values.new_tensor([width * rate, height * rate]) - corners)
        return torch.cat((corners, sides, scores.unsqueeze(-1)), -1).flatten(1, 2)

    def _rows(self, image: int, found: Array) -> Array:
        found = found[(found[:, 4] >= self.least_score) & (found[:, 2:4] >= self.least_size).all(1)]
        # Of equal scores the fork takes the last one first.
        found = found[::-1]
        found = found[suppression.best_first(found[:, 4], self.before)]
        corners, sides = found[:, :2], found[:, 2:4]
        boxes = np.column_stack((corners, corners + sides, sides.prod(1)))
        stay = suppression.suppress(boxes, self.most_overlap, self.overlap, most=self.after)
        return np.column_stack((np.full(len(stay), image), boxes[stay, :4], found[stay, 4]))

    @classmethod
    def example(cls, dice: Dice) -> Example:
        images, channels, scales = dice.integer(1, 2), dice.integer(6, 8), dice.integer(1, 2)
        fields = " ".join(f"field_w: {20 * i} field_h: {24 * i} downsample_rate: {8 * i}" for i in (1, 2)[:scales])
        numbers = f"fg_thr: {dice.number(-1, 2)} iou_thr: {dice.number(0.2, 0.7)} max_nms_num: {dice.pick(0, 5)}"
        rest = f'nms_type: "{dice.pick(*MODES)}" max_post_nms_num: {dice.pick(0, 3)} min_size: 10'
        bottoms = [dice.normal(images, channels, dice.integer(1, 4), dice.integer(1, 4)) for _ in range(scales)]
        return Example(f"box_output_param {{ {fields} {numbers} {rest} }}", bottoms, tops=dice.integer(1, 2))
