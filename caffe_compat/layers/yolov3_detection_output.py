"""Yolov3DetectionOutput: boxes of YOLO v3 (Redmon and Farhadi 2018; the layer of eric612's fork)."""

import torch
from torch import Tensor

from caffe_compat.layers.base import Layer, Shape
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared import suppression
from caffe_compat.layers.shared.example import Dice, Example
from caffe_compat.layers.shared.fields import refuse_fields
from caffe_compat.layers.shared.yolo import ROW, cells, centers, detections, pairs


@register("Yolov3DetectionOutput")
class Yolov3DetectionOutput(Layer):
    """Bottoms (N, A (5 + classes), S, S), ``mask_group_num`` of them, each with its own S -> top (1, 1, detections, 7):
    image (0), label from 1, score, xmin, ymin, xmax, ymax in parts of the image, best score first.

    A: ``num_box``.  Each bottom takes its share of ``mask`` in order, which names pairs of ``biases``: widths and
    heights in pixels of an image of ``anchors_scale`` S pixels.  Each class with sigmoid(objectness) sigmoid(class)
    above ``confidence_threshold`` is a detection; of those that overlap by ``nms_threshold`` or more, of whatever
    class, the better one stays.
    """

    param_fields = ("yolov3_detection_output_param",)
    onnx_obstacle = "a choice of boxes has a form for DetectionOutput and Proposal only"
    bottom_count = (1, None)
    has_backward = False
    tops_depend_on_data = True
    graph_obstacle = "has a top whose size depends on the data"

    def setup(self, *maps: Shape) -> None:
        param = self.param.yolov3_detection_output_param
        if param.gaussian_box:
            refuse_fields(
                self, self.param_fields[0], "gaussian_box", because="boxes of Gaussian YOLO are not supported"
            )
        self.boxes, self.classes = int(param.num_box), int(param.num_classes)
        self.threshold, self.overlap = float(param.confidence_threshold), float(param.nms_threshold)
        self.scales, mask = [float(scale) for scale in param.anchors_scale], [int(place) for place in param.mask]
        groups, biases = int(param.mask_group_num), len(param.biases)
        if groups != len(maps) or len(self.scales) < groups:
            self.fail(
                f"has {len(maps)} bottoms, mask_group_num {groups} and {len(self.scales)} anchors_scale; "
                "expected one group and scale for each bottom"
            )
        if len(mask) != groups * self.boxes or biases % 2 or max(mask) >= biases // 2 or self.classes < 1:
            self.fail(
                f"mask is {mask} with {biases} biases; expected num_box {self.boxes} places of pairs of biases for "
                f"each of {groups} bottoms"
            )
        chosen = pairs([float(bias) for bias in param.biases])[mask]
        self.anchors = [chosen[i * self.boxes : (i + 1) * self.boxes] for i in range(groups)]

    def infer_shapes(self, *maps: Shape) -> list[Shape]:
        """One row, as the fork gives: how many there are, only the data knows."""
        channels = self.boxes * (5 + self.classes)
        for shape in maps:
            if len(shape) != 4 or shape[1] != channels or shape[2] != shape[3]:
                self.fail(f"a bottom has shape {shape}; expected (N, {channels}, S, S)")
        return [(1, 1, 1, ROW)]

    def forward(self, *maps: Tensor) -> Tensor:
        return suppression.on_host(self._detect, *(values.detach() for values in maps))

    def _detect(self, *maps: Tensor) -> Tensor:
        found = [self._decode(i, values) for i, values in enumerate(maps)]
        boxes, scores, labels = (torch.cat(parts) for parts in zip(*found, strict=True))
        return detections(boxes, scores, labels, self.overlap, len(maps[0]))

    def _decode(self, index: int, maps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        values = cells(maps, self.boxes)
        anchors = torch.from_numpy(self.anchors[index]).to(maps)
        sizes = values[..., 2:4].exp() * anchors / (maps.shape[3] * self.scales[index])
        scores = (values[..., 5:].sigmoid() * values[..., 4:5].sigmoid()).reshape(-1, self.classes)
        place, label = (scores > self.threshold).nonzero(as_tuple=True)
        return torch.cat((centers(values), sizes), -1).view(-1, 4)[place], scores[place, label], label

    @classmethod
    def example(cls, dice: Dice) -> Example:
        boxes, classes, images, groups = (dice.integer(1, 3) for _ in range(4))
        biases = " ".join(f"biases: {dice.integer(8, 60)}" for _ in range(2 * boxes * groups))
        masks = " ".join(f"mask: {place}" for place in dice.rng.permutation(boxes * groups))
        scales = " ".join(f"anchors_scale: {scale}" for scale in (32, 16, 8)[:groups])
        fields = (
            f"num_box: {boxes} num_classes: {classes} {biases} {masks} {scales} mask_group_num: {groups} "
            f"confidence_threshold: {dice.pick(0.05, 0.4)} nms_threshold: {dice.number(0.2, 0.8)}"
        )
        sides = [dice.integer(1, 3) for _ in range(groups)]
        bottoms = [dice.normal(images, boxes * (5 + classes), side, side) for side in sides]
        return Example(f"yolov3_detection_output_param {{ {fields} }}", bottoms)
