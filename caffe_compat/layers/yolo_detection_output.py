"""YoloDetectionOutput: boxes of YOLO v2 (Redmon and Farhadi 2017; the layer of eric612's fork)."""

import torch
from torch import Tensor

from caffe_compat.layers.base import Layer, Shape
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared import suppression
from caffe_compat.layers.shared.example import Dice, Example
from caffe_compat.layers.shared.yolo import ROW, cells, centers, detections, pairs


@register("YoloDetectionOutput")
class YoloDetectionOutput(Layer):
    """Bottoms (N, A (5 + classes), S, S), one or two -> top (1, 1, detections, 7): image (0), label from 1, score,
    xmin, ymin, xmax, ymax in parts of the image, best score first.

    A: ``num_box``, with ``biases`` as widths and heights in cells.  A box's score is sigmoid(objectness) times its best
    class' softmax; those of at least ``confidence_threshold`` are taken, of boxes that overlap by ``nms_threshold`` or
    more the better one.
    """

    param_fields = ("yolo_detection_output_param",)
    onnx_obstacle = "a choice of boxes has a form for DetectionOutput and Proposal only"
    bottom_count = (1, 2)
    has_backward = False
    tops_depend_on_data = True
    graph_obstacle = "has a top whose size depends on the data"

    def setup(self, *maps: Shape) -> None:
        param = self.param.yolo_detection_output_param
        self.boxes, self.classes = int(param.num_box), int(param.num_classes)
        self.anchors = [float(bias) for bias in param.biases]
        self.threshold, self.overlap = float(param.confidence_threshold), float(param.nms_threshold)
        if len(self.anchors) != 2 * self.boxes or self.classes < 1 or param.coords != 4:
            self.fail(
                f"yolo_detection_output_param has {len(self.anchors)} biases, {self.classes} classes and "
                f"{param.coords} coords; expected {2 * self.boxes} biases for num_box {self.boxes}, classes, 4 coords"
            )

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
        boxes, scores, labels = (torch.cat(parts) for parts in zip(*map(self._decode, maps), strict=True))
        taken = scores >= self.threshold
        return detections(boxes[taken], scores[taken], labels[taken], self.overlap, len(maps[0]))

    def _decode(self, maps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        values = cells(maps, self.boxes)
        anchors = torch.from_numpy(pairs(self.anchors)).to(maps)
        sizes = values[..., 2:4].exp() * anchors / maps.shape[3]
        best, label = values[..., 5:].softmax(-1).max(-1)
        scores = values[..., 4].sigmoid() * best
        return torch.cat((centers(values), sizes), -1).view(-1, 4), scores.flatten(), label.flatten()

    @classmethod
    def example(cls, dice: Dice) -> Example:
        boxes, classes, side, images = (dice.integer(1, 3) for _ in range(4))
        biases = " ".join(f"biases: {dice.number(0.5, 3)}" for _ in range(2 * boxes))
        fields = (
            f"num_box: {boxes} num_classes: {classes} {biases} confidence_threshold: {dice.pick(0.05, 0.3)} "
            f"nms_threshold: {dice.number(0.2, 0.8)}"
        )
        bottoms = [dice.normal(images, boxes * (5 + classes), side, side) for _ in range(dice.integer(1, 2))]
        return Example(f"yolo_detection_output_param {{ {fields} }}", bottoms)
