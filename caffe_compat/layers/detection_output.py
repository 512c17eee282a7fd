"""DetectionOutput: SSD's boxes, from offsets, scores and prior boxes (Liu et al. 2016)."""

from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor

from caffe_compat.layers.base import Layer, Shape, count
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared import boxes, onnx_boxes, suppression
from caffe_compat.layers.shared.example import Dice, Example
from caffe_compat.layers.shared.fields import refuse_fields
from caffe_compat.proto import caffe_pb2

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph, OnnxStep

# So many times keep_top_k candidates are tried first.
ENOUGH = 4

# image, label, score, xmin, ymin, xmax, ymax
ROW = 7


@register("DetectionOutput")
class DetectionOutput(Layer):
    """Bottoms offsets (N, P L 4), scores (N, P C) and prior boxes (1, 2, P 4) -> top (1, 1, detections, 7): image,
    label, score, xmin, ymin, xmax, ymax.  RefineDet adds two: scores (N, P 2) of background and object, and offsets
    (N, P 4), which move the prior boxes first; a prior whose object's score is below ``objectness_score`` is
    background.

    C: ``num_classes``; P: priors; L: 1, or C without ``share_location``.  For each image and each class but the
    background: of the priors with a score above ``confidence_threshold`` the best ``nms_param.top_k``; of them those
    that overlap with no better one by more than ``nms_threshold``; then of all classes the best ``keep_top_k``.
    Rows go by image, by label, and then from the best score on.  Equal scores keep the priors' order.

    Boxes are parts of the image's width and height and are not clipped.  Where no image has a detection, there is one
    row for each: its number, then -1.
    """

    #: whether rows have the prior's number behind the box, for a subclass
    tells_priors: ClassVar[bool] = False

    param_fields = ("detection_output_param",)
    bottom_count = (1, 5)
    has_backward = False
    tops_depend_on_data = True
    onnx_float32 = True
    graph_obstacle = "has a top whose size depends on the data"

    def setup(self, *bottoms: Shape) -> None:
        yolo = "it is of another layer of this name, of YOLO; use YoloDetectionOutput"
        refuse_fields(self, *self.param_fields, "side", "num_box", "coords", "nms_threshold", "biases", because=yolo)
        if len(bottoms) not in (3, 5):
            self.fail(
                f"has {len(bottoms)} bottom(s); expected 3 (offsets, scores, prior boxes), or 5 as in RefineDet; for "
                "YOLO's layer of this name, which has one, use YoloDetectionOutput"
            )
        param = self.param.detection_output_param
        if param.num_classes < 1:
            self.fail("detection_output_param.num_classes is not given, or 0; expected how many classes there are")
        self.classes, self.background = int(param.num_classes), int(param.background_label_id)
        self.share_location, self.keep_top_k = bool(param.share_location), int(param.keep_top_k)
        self.code_type = str(caffe_pb2.PriorBoxParameter.CodeType.Name(param.code_type))
        self.variance_in_target = bool(param.variance_encoded_in_target)
        has_threshold = param.HasField("confidence_threshold")
        self.confidence_threshold = float(param.confidence_threshold) if has_threshold else -np.inf
        self.nms_threshold, self.eta = float(param.nms_param.nms_threshold), float(param.nms_param.eta)
        self.top_k = int(param.nms_param.top_k) if param.nms_param.HasField("top_k") else -1
        if self.nms_threshold < 0 or not 0 < self.eta <= 1:
            self.fail(
                f"nms_param.nms_threshold is {self.nms_threshold} and nms_param.eta {self.eta}; "
                "expected a number of at least 0, and one above 0 and at most 1"
            )
        if not param.normalized_bbox:
            self.fail("detection_output_param.normalized_bbox is false; expected boxes in parts of the image")
        self.objectness = float(param.objectness_score)
        if param.save_output_param.output_directory:
            self.warn("save_output_param has no effect: detections are not written to files, take them from the top")
        if param.visualize:
            self.warn("detection_output_param.visualize has no effect: nothing is shown")

    def infer_shapes(self, offsets: Shape, scores: Shape, priors: Shape, *refined: Shape) -> list[Shape]:
        """One row, as SSD's Reshape gives: how many there are, only the data knows."""
        number = priors[2] // 4 if len(priors) > 2 else 0
        locations = 1 if self.share_location else self.classes
        expected = (number * locations * 4, number * self.classes)
        if not number or (count(offsets, 1), count(scores, 1)) != expected or offsets[0] != scores[0]:
            twice = (count(offsets, 1), count(scores, 1)) == (2 * expected[0], 2 * expected[1])
            hint = "; for TextBoxes, whose boxes come twice, add additional_y_offset: true to each prior_box_param"
            self.fail(
                f"bottoms have shapes {offsets}, {scores} and {priors}; expected (N, {expected[0]}) offsets and "
                f"(N, {expected[1]}) scores for {number} priors and {self.classes} classes{hint if twice else ''}"
            )
        if refined and [count(shape, 1) for shape in refined] != [2 * number, 4 * number]:
            self.fail(
                f"bottoms 3 and 4 have shapes {', '.join(map(str, refined))}; expected RefineDet's (N, {2 * number}) "
                f"scores and (N, {4 * number}) offsets for {number} priors, or neither"
            )
        return [(1, 1, 1, ROW)]

    def forward(self, *bottoms: Tensor) -> Tensor:
        return suppression.on_host(self._detect, *(bottom.detach() for bottom in bottoms))

    def _detect(self, offsets: Tensor, scores: Tensor, priors: Tensor, *refined: Tensor) -> Tensor:
        prior, variance = priors.flatten()[: 2 * priors.shape[2]].view(2, -1, 1, 4)
        variance = None if self.variance_in_target else variance
        images, number = len(offsets), len(prior)
        scores = scores.reshape(images, number, self.classes)
        if refined:
            background = refined[0].reshape(images, number, 2)[..., 1:] < self.objectness
            no_object = torch.arange(self.classes, device=scores.device) == self.background
            scores = torch.where(background, no_object.to(scores.dtype), scores)
            prior = boxes.decode(refined[1].reshape(images, number, 1, 4), prior, variance, self.code_type)
        decoded = boxes.decode(offsets.reshape(images, number, -1, 4), prior, variance, self.code_type)
        # (N, P, L, 4) and (N, C, P)
        edges, values = decoded.cpu().numpy(), scores.transpose(1, 2).contiguous().cpu().numpy()
        rows = [self._rows(i, edges[i], values[i]) for i in range(len(scores))]
        found = np.concatenate(rows)
        if not len(found):
            found = np.full((len(scores), ROW + self.tells_priors), -1.0)
            found[:, 0] = np.arange(len(scores))
        return torch.from_numpy(found).to(offsets.device, offsets.dtype).view(1, 1, len(found), -1)

    def _rows(self, image: int, edges: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """The rows of one image; ``edges`` (P, L, 4) and ``scores`` (C, P)."""
        candidates = scores > self.confidence_threshold
        if 0 <= self.background < self.classes:
            candidates[self.background] = False
        enough = ENOUGH * self.keep_top_k
        if 0 < enough < np.count_nonzero(candidates):
            # Whether a box stays depends on better ones only: where enough of the best stay, the others do not count.
            least = np.partition(scores[candidates], -enough)[-enough]
            rows = self._rows_of(image, edges, scores, candidates & (scores >= least))
            if len(rows) == self.keep_top_k:
                return rows
        return self._rows_of(image, edges, scores, candidates)

    def _rows_of(self, image: int, edges: np.ndarray, scores: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        labels, priors = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for label in np.flatnonzero(candidates.any(1)):
            places = np.flatnonzero(candidates[label])
            places = places[suppression.best_first(scores[label, places], self.top_k)]
            located = suppression.with_areas(edges[places, 0 if self.share_location else label])
            stay = places[suppression.suppress(located, self.nms_threshold, eta=self.eta)]
            labels.append(np.full(len(stay), label))
            priors.append(stay)
        label_of, prior_of = np.concatenate(labels), np.concatenate(priors)
        if 0 <= self.keep_top_k < len(label_of):
            best = suppression.best_first(scores[label_of, prior_of], self.keep_top_k)
            best = best[np.argsort(label_of[best], kind="stable")]
            label_of, prior_of = label_of[best], prior_of[best]
        located = edges[prior_of, 0 if self.share_location else label_of]
        columns = np.full(len(label_of), image), label_of, scores[label_of, prior_of], located
        return np.column_stack((*columns, prior_of) if self.tells_priors else columns)

    def data_sized(self) -> dict[int, int]:
        return {0: 2}

    def to_onnx(self, graph: "OnnxGraph", step: "OnnxStep") -> list[str]:
        if self.eta < 1:
            self.fail("nms_param.eta below 1, a threshold that falls from box to box, has no ONNX form")
        images, number = step.size_of(0, 0), step.size_of(2, 2)
        priors = graph.work_out(number, ("Div", 4))
        rows = graph.reshape(step.bottoms[2], [2, -1, 1, 4])
        prior = graph.add("Gather", rows, graph.sizes([0]), axis=0)
        variance = None if self.variance_in_target else graph.add("Gather", rows, graph.sizes([1]), axis=0)
        scores = graph.reshape(step.bottoms[1], [images, -1, self.classes])
        if len(step.bottoms) > 3:
            objects = graph.reshape(step.bottoms[3], [images, -1, 2])
            object_score = graph.add("Gather", objects, graph.sizes([1]), axis=2)
            background = graph.add("Less", object_score, graph.constant(self.objectness))
            only = graph.constant(np.arange(self.classes) == self.background)
            scores = graph.add("Where", background, only, scores)
            moves = graph.reshape(step.bottoms[4], [images, -1, 1, 4])
            prior = onnx_boxes.decode(graph, moves, prior, variance, self.code_type)
        locations = 1 if self.share_location else self.classes
        offsets = graph.reshape(step.bottoms[0], [images, -1, locations, 4])
        decoded = onnx_boxes.decode(graph, offsets, prior, variance, self.code_type)
        scores = graph.add("Transpose", scores, perm=[0, 2, 1])  # (N, C, P)
        if 0 <= self.background < self.classes:
            allowed = graph.constant((np.arange(self.classes) != self.background)[:, None], np.bool_)
            scores = graph.add("Where", allowed, scores, graph.constant(onnx_boxes.LOWEST))
        best = scores if self.top_k < 0 else onnx_boxes.best_of_each(graph, scores, self.top_k, priors)
        kept = self._onnx_suppressed(graph, decoded, best)
        if self.keep_top_k >= 0:
            values_kept = onnx_boxes.pick(graph, scores, kept, [0, 1, 2])
            kept = onnx_boxes.best_of_image(graph, kept, values_kept, self.keep_top_k, images)
        rows = self._onnx_rows(graph, decoded, scores, kept)
        more = self._onnx_of_priors(graph, step, kept)
        rows = graph.add("Concat", rows, *more, axis=1) if more else rows
        # Where there are none, one row for each image.
        image = graph.unsqueeze(onnx_boxes.numbers(graph, images), [1])
        blank = graph.add("Pad", image, graph.sizes([0, 0, 0, ROW - 1 + len(more)]), graph.constant(-1.0))
        none = graph.add("Equal", graph.size(graph.size_at(kept, 0)), graph.sizes([0]))
        blank = graph.choose(blank, graph.add("Expand", none, graph.shape([images])))
        return [graph.reshape(graph.add("Concat", rows, blank, axis=0), [1, 1, -1, ROW + len(more)])]

    def _onnx_of_priors(self, graph: "OnnxGraph", step: "OnnxStep", kept: str) -> list[str]:
        """Columns (K, 1) behind the box, for a subclass; ``kept`` (K, 3): image, class and prior of each row."""
        return []

    def _onnx_suppressed(self, graph: "OnnxGraph", decoded: str, scores: str) -> str:
        threshold, least = self.nms_threshold, self.confidence_threshold
        if self.share_location:
            boxes = graph.add("Squeeze", decoded, graph.sizes([2]))
            return onnx_boxes.suppress(graph, boxes, scores, threshold, least=least)
        # Each class has boxes of its own, and is an image of its own here: number n C + c.
        boxes = graph.reshape(graph.add("Transpose", decoded, perm=[0, 2, 1, 3]), [-1, graph.size_at(decoded, 1), 4])
        alone = graph.unsqueeze(graph.reshape(scores, [-1, graph.size_at(scores, 2)]), [1])
        kept = onnx_boxes.suppress(graph, boxes, alone, threshold, least=least)
        owner, _, place = graph.add_many("Split", [kept, graph.sizes([1, 1, 1])], 3, axis=1)
        classes = graph.sizes([self.classes])
        return graph.add("Concat", graph.add("Div", owner, classes), graph.add("Mod", owner, classes), place, axis=1)

    def _onnx_rows(self, graph: "OnnxGraph", decoded: str, scores: str, kept: str) -> str:
        names = graph.to_float(graph.add("Gather", kept, graph.sizes([0, 1]), axis=1))
        values = graph.unsqueeze(onnx_boxes.pick(graph, scores, kept, [0, 1, 2]), [1])
        if self.share_location:
            edges = onnx_boxes.pick(graph, graph.add("Squeeze", decoded, graph.sizes([2])), kept, [0, 2])
        else:
            edges = onnx_boxes.pick(graph, decoded, kept, [0, 2, 1])
        return graph.add("Concat", names, values, edges, axis=1)

    @classmethod
    def example(cls, dice: Dice) -> Example:
        images, priors, classes = dice.integer(1, 2), dice.integer(1, 12), dice.integer(1, 4)
        shared, code_type = dice.switch(), dice.pick("CORNER", "CENTER_SIZE", "CORNER_SIZE")
        corner = dice.rng.uniform(0, 0.6, (priors, 2))
        prior = np.concatenate((corner, corner + dice.rng.uniform(0.1, 0.4, (priors, 2))), 1)
        variance = np.full(prior.size, 0.1)
        bottoms = [
            dice.normal(images, priors * (1 if shared == "true" else classes) * 4),
            dice.probabilities(images * priors, classes).reshape(images, -1),
            np.stack((prior.flatten(), variance))[None].astype(np.float32),
        ]
        if dice.integer(0, 2) == 0:
            bottoms += [
                dice.probabilities(images * priors, 2).reshape(images, -1),
                dice.normal(images, priors * 4),
            ]
        fields = (
            f"num_classes: {classes} objectness_score: 0.3 share_location: {shared} code_type: {code_type} "
            f"background_label_id: {dice.integer(-1, 1)} variance_encoded_in_target: {dice.switch()} "
            f"keep_top_k: {dice.pick(-1, 3, 50)} {dice.pick('', 'confidence_threshold: 0.2')} "
            f"nms_param {{ nms_threshold: {dice.number(0.2, 0.8)} "
            f"eta: {dice.pick(1, 0.9)} {dice.pick('', 'top_k: 5')} }}"
        )
        return Example(f"detection_output_param {{ {fields} }}", bottoms)
