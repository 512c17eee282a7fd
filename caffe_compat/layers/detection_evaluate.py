"""DetectionEvaluate: which detections are right, for the average precision that a solver reports (SSD)."""

import numpy as np
import torch
from torch import Tensor

from caffe_compat.errors import DataError, reading
from caffe_compat.layers.base import Layer, Shape
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.boxes import clip, overlaps, project
from caffe_compat.layers.shared.example import Dice, Example
from caffe_compat.proto import caffe_pb2

_DETECTION, _TRUTH, _ROW = 7, 8, 5  # numbers in a row


@register("DetectionEvaluate")
class DetectionEvaluate(Layer):
    """Bottoms detections (1, 1, D, 7) and ground truth (1, 1, G, 8) -> (1, 1, classes + D, 5).

    A detection is item, label, score, xmin, ymin, xmax, ymax; ground truth as for MultiBoxLoss.  First a row for each
    class but the background: -1, label, number of boxes, -1, -1.  Then one for each detection: item, label, score, and
    1, 0 for a true one, 0, 1 for a false one, 0, 0 for one on a difficult box that does not count
    (``evaluate_difficult_gt: false``).  With a ``name_size_file`` boxes are compared in the pixels of the images whose
    sizes it lists, in order.
    """

    param_fields = ("detection_evaluate_param",)
    bottom_count = (2, 2)
    has_backward = False
    tops_depend_on_data = True
    graph_obstacle = "compares boxes on the host"
    drawing_kind = "loss"

    def setup(self, detections: Shape, truth: Shape) -> None:
        param = self.param.detection_evaluate_param
        self.classes = int(param.num_classes)
        self.background = int(np.uint32(param.background_label_id).astype(np.int32))
        self.threshold, self.difficult = float(param.overlap_threshold), bool(param.evaluate_difficult_gt)
        if self.classes < 1:
            self.fail("detection_evaluate_param.num_classes is missing or 0; expected at least 1")
        if not self.threshold > 0:
            self.fail(f"detection_evaluate_param.overlap_threshold is {self.threshold:g}; expected more than 0")
        self.labels = [label for label in range(self.classes) if label != self.background]
        self.sizes = self._read_sizes(param.name_size_file) if param.HasField("name_size_file") else []
        self.next_size = 0
        self.resize = param.resize_param if param.HasField("resize_param") else None
        if self.resize is not None and (not self.resize.height or not self.resize.width):
            self.fail("detection_evaluate_param.resize_param lacks height or width; expected at least 1")

    def _read_sizes(self, path: str) -> list[tuple[int, int]]:
        """(height, width) of each line ``name height width``."""
        with reading(path, "a list of names and sizes", DataError), open(path, encoding="utf-8") as file:
            words = [line.split() for line in file]
        sizes = []
        for number, line in enumerate(words, 1):
            if not line:
                continue
            if len(line) != 3 or not line[1].isdecimal() or not line[2].isdecimal() or "0" in line[1:]:
                self.fail(f"{path}:{number}: expected a name, a height and a width")
            sizes.append((int(line[1]), int(line[2])))
        if not sizes:
            self.fail(f"name_size_file {path} is empty; expected a line for each image")
        return sizes

    def infer_shapes(self, detections: Shape, truth: Shape) -> list[Shape]:
        for name, shape, length in (("detections", detections, _DETECTION), ("ground truth", truth, _TRUTH)):
            if len(shape) != 4 or shape[:2] != (1, 1) or shape[3] != length:
                self.fail(f"{name} have shape {shape}; expected (1, 1, rows, {length})")
        return [(1, 1, len(self.labels) + detections[2], _ROW)]

    @torch.no_grad()
    def forward(self, detections: Tensor, truth: Tensor) -> Tensor:
        # SSD's boxes are float32 in any net.
        found, true = detections.reshape(-1, _DETECTION).float().cpu(), truth.reshape(-1, _TRUTH).float().cpu()
        items = true[:, 0].int()
        if (items == -1).any():
            true = true[: int((items == -1).nonzero()[0])]  # what follows the first -1 does not count
        found = found[found[:, 0].int() != -1]
        for name, labels in (("detection", found[:, 1].int()), ("ground truth", true[:, 1].int())):
            if (labels == self.background).any():
                self.fail(f"a {name} has label {self.background}, the background's; expected others")
        counted = true[:, 1].int() if self.difficult else true[true[:, 7] == 0, 1].int()
        rows = [[-1.0, label, int((counted == label).sum()), -1.0, -1.0] for label in self.labels]
        for item in found[:, 0].int().unique().tolist():
            rows += self._judge_item(found[found[:, 0].int() == item], true[true[:, 0].int() == item])
        valid = int((detections.reshape(-1, _DETECTION)[:, 1] != -1).sum())
        rows += [[0.0] * _ROW for _ in range(len(self.labels) + valid - len(rows))]
        return torch.tensor(rows, dtype=detections.dtype, device=detections.device).view(1, 1, -1, _ROW)

    def _judge_item(self, found: Tensor, true: Tensor) -> list[list[float]]:
        size = self.sizes[self.next_size] if self.sizes else None
        rows = []
        for label in found[:, 1].int().unique().tolist():
            if label != -1:
                rows += self._judge_label(found[found[:, 1].int() == label], true[true[:, 1].int() == label], size)
        if self.sizes:
            self.next_size = (self.next_size + 1) % len(self.sizes)
        return rows

    def _judge_label(self, found: Tensor, true: Tensor, size: tuple[int, int] | None) -> list[list[float]]:
        """Rows for the detections of one label in one image, the best first."""
        if not len(true):
            return [[*row[:3].tolist(), 0.0, 1.0] for row in found]
        found = found[torch.sort(found[:, 2], descending=True, stable=True).indices]
        boxes, true_boxes = found[:, 3:7], true[:, 3:7]
        if size is not None:
            boxes, true_boxes = self._in_pixels(boxes, size), self._in_pixels(true_boxes, size)
        # SSD takes the areas of boxes that it cut to the image after scaling without the pixel on their edges.
        whole = size is not None and not self._scales_by_fields()
        shared = overlaps(boxes.unsqueeze(1), true_boxes.unsqueeze(0), size is not None, whole)
        best, nearest = shared.max(1)
        rows, seen = [], set()
        for row, overlap, truth in zip(found, best.tolist(), nearest.tolist(), strict=True):
            verdict = [0.0, 1.0]
            if overlap >= np.float32(self.threshold):
                if not self.difficult and true[truth, 7] != 0:
                    verdict = [0.0, 0.0]
                elif truth not in seen:
                    verdict = [1.0, 0.0]
                    seen.add(truth)
            rows.append([*row[:3].tolist(), *verdict])
        return rows

    def _scales_by_fields(self) -> bool:
        resize = self.resize
        if resize is None or caffe_pb2.ResizeParameter.Resize_mode.Name(resize.resize_mode) != "FIT_SMALL_SIZE":
            return False
        return bool(resize.height_scale and resize.width_scale)

    def _in_pixels(self, boxes: Tensor, size: tuple[int, int]) -> Tensor:
        """Boxes that are parts of the net's image as pixels of the original of ``size`` (height, width)."""
        height, width = size
        limits = torch.tensor([width, height, width, height], dtype=boxes.dtype)
        if self.resize is None:
            return clip(boxes) * limits
        mode = caffe_pb2.ResizeParameter.Resize_mode.Name(self.resize.resize_mode)
        if mode == "FIT_LARGE_SIZE_AND_PAD":
            frame = self._frame(height, width)
            meets = ((boxes[:, :2] < frame[2:]) & (boxes[:, 2:] > frame[:2])).all(1, keepdim=True)
            boxes = torch.where(meets, project(boxes, frame)[0], boxes)
        if self._scales_by_fields():
            scale = [self.resize.width_scale, self.resize.height_scale]
            return clip(boxes * torch.tensor(scale * 2, dtype=boxes.dtype), width, height)
        return clip(boxes) * limits

    def _frame(self, height: int, width: int) -> Tensor:
        """Where in the padded image the image itself lies."""
        assert self.resize is not None
        f = np.float32
        net_height, net_width = f(self.resize.height), f(self.resize.width)
        aspect = f(width) / f(height)
        if aspect > net_width / net_height:
            edge = (net_height - net_width / aspect) / f(2) / net_height
            return torch.tensor([0, edge, 1, f(1) - edge], dtype=torch.float32)
        edge = (net_width - net_height * aspect) / f(2) / net_width
        return torch.tensor([edge, 0, f(1) - edge, 1], dtype=torch.float32)

    def deploy_form(self) -> None:
        return None

    @classmethod
    def example(cls, dice: Dice) -> Example:
        images, classes = dice.integer(1, 3), dice.integer(2, 4)
        truths, number = dice.integer(1, 6), dice.integer(1, 8)
        low = dice.rng.uniform(0, 0.6, (truths, 2))
        boxes = np.concatenate((low, low + dice.rng.uniform(0.2, 0.4, (truths, 2))), 1)
        own = np.stack((dice.indices(images, truths), 1 + dice.indices(classes - 1, truths)), 1)
        truth = np.concatenate((own, np.zeros((truths, 1)), boxes, dice.indices(2, truths, 1)), 1)
        chosen = dice.rng.integers(0, truths, number)
        scores, moved = dice.positive(number, 1), dice.rng.uniform(-0.1, 0.1, (number, 4))
        found = np.concatenate((own[chosen], scores, boxes[chosen] + moved), 1)
        fields = f"""detection_evaluate_param {{
            num_classes: {classes} evaluate_difficult_gt: {dice.switch()} overlap_threshold: {dice.number(0.3, 0.7)}
        }}"""
        bottoms = [found.reshape(1, 1, number, _DETECTION), truth.reshape(1, 1, truths, _TRUTH)]
        return Example(fields, [bottom.astype(np.float32) for bottom in bottoms])
