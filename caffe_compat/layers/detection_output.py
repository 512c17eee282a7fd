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
from caffe_compat.layers.shared.yolo import region_rows
from caffe_compat.proto import caffe_pb2

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph, OnnxStep

# So many times keep_top_k candidates are tried first.
ENOUGH = 4

# image, label, score, xmin, ymin, xmax, ymax
ROW = 7

# Offsets of a box, and with them those of its four corners.
BOX, POLYGON = 4, 12
# Which edges of a box its corners have: x and y, clockwise from the upper left.
CORNERS = [0, 1, 2, 1, 2, 3, 0, 3]


# What YOLO v2's layer of this name reads.
REGION_FIELDS = frozenset(
    ("side", "num_classes", "num_box", "coords", "confidence_threshold", "nms_threshold", "biases", "label_map_file")
)


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

    With one bottom (N = 1, A (5 + C), S, S) it is YOLO v2's layer of this name (caffe-yolov2; ``region_rows``).
    ``use_polygon: true`` (TextBoxes++): an offset has 12 numbers, of the box and of its corners (top left, top right,
    bottom right, bottom left; each from the prior's corner, in parts of its size), and a row the 8 edges of those
    behind the box.  ``normalized: false`` (Intel's model zoo): priors are regions (1, 1, 5 P), of an image's number and
    pixels, of an image of ``input_width`` and ``input_height``, for one image.
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
        self.of_regions = len(bottoms) == 1 and not self.tells_priors
        if self.of_regions:
            self._setup_regions()
            return
        yolo = "it is of YOLO v2's layer of this name, which has one bottom"
        refuse_fields(self, *self.param_fields, "side", "num_box", "coords", "nms_threshold", "biases", because=yolo)
        if len(bottoms) not in (3, 5):
            self.fail(
                f"has {len(bottoms)} bottom(s); expected 3 (offsets, scores, prior boxes), 5 as in RefineDet, or 1 as "
                "in YOLO v2"
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
        self.pixels = None if param.normalized else (int(param.input_width), int(param.input_height))
        if self.pixels and (len(bottoms) != 3 or not self.variance_in_target or min(self.pixels) < 1):
            self.fail(
                "detection_output_param.normalized is false; expected three bottoms, variance_encoded_in_target: true, "
                "input_width and input_height"
            )
        self.offset_numbers = POLYGON if param.HasField("use_polygon") and param.use_polygon else BOX
        if param.HasField("use_polygon"):
            self._check_polygons()
        self.objectness = float(param.objectness_score)
        if param.save_output_param.output_directory:
            self.warn("save_output_param has no effect: detections are not written to files, take them from the top")
        if param.visualize:
            self.warn("detection_output_param.visualize has no effect: nothing is shown")

    def _check_polygons(self) -> None:
        if self.offset_numbers != POLYGON:
            self.fail("detection_output_param.use_polygon is false; TextBoxes++'s turned boxes are not built in")
        if (
            self.code_type != "CENTER_SIZE"
            or self.variance_in_target
            or len(self.param.bottom) > 3
            or self.tells_priors
        ):
            self.fail(
                "detection_output_param.use_polygon is true; expected code_type: CENTER_SIZE and priors with variances"
            )

    def _setup_regions(self) -> None:
        param = self.param.detection_output_param
        ssd = "it is of SSD's layer of this name, which has three bottoms"
        given = {descriptor.name for descriptor, _ in param.ListFields()} - REGION_FIELDS
        refuse_fields(self, *self.param_fields, *sorted(given), because=ssd)
        self.classes = int(param.num_classes) if param.HasField("num_classes") else 20
        self.side, self.anchors = int(param.side), [float(bias) for bias in param.biases]
        self.confidence_threshold = (
            float(param.confidence_threshold) if param.HasField("confidence_threshold") else 0.01
        )
        self.nms_threshold = float(param.nms_threshold)
        if len(self.anchors) != 2 * param.num_box or self.classes < 1 or param.coords != 4:
            self.fail(
                f"detection_output_param has {len(self.anchors)} biases, {self.classes} classes and {param.coords} "
                f"coords; expected {2 * param.num_box} biases for num_box {param.num_box}, classes, 4 coords"
            )
        if param.label_map_file:
            self.warn("detection_output_param.label_map_file has no effect: labels stay numbers")

    def infer_shapes(self, *bottoms: Shape) -> list[Shape]:
        """One row, as SSD's Reshape gives: how many there are, only the data knows."""
        if self.of_regions:
            expected = (1, len(self.anchors) // 2 * (5 + self.classes), self.side, self.side)
            if bottoms[0] != expected:
                self.fail(f"bottom has shape {bottoms[0]}; expected {expected}")
            return [(1, 1, 1, ROW)]
        return self._infer_boxes(*bottoms)

    def _infer_boxes(self, offsets: Shape, scores: Shape, priors: Shape, *refined: Shape) -> list[Shape]:
        number = priors[2] // (5 if self.pixels else 4) if len(priors) > 2 else 0
        if self.pixels and offsets[0] != 1:
            self.fail(f"bottom 0 has shape {offsets}; with normalized: false expected one image")
        locations = 1 if self.share_location else self.classes
        expected = (number * locations * self.offset_numbers, number * self.classes)
        if not number or (count(offsets, 1), count(scores, 1)) != expected or offsets[0] != scores[0]:
            twice = (count(offsets, 1), count(scores, 1)) == (2 * expected[0], 2 * expected[1])
            hint = "; for TextBoxes, whose boxes come twice, add additional_y_offset: true to each prior_box_param"
            if not twice and 0 < number * self.classes < count(scores, 1):
                hint = "; for FaceBoxes, which has more boxes for its least sizes, add dense_faces: true to each"
                hint, twice = f"{hint} prior_box_param", True
            self.fail(
                f"bottoms have shapes {offsets}, {scores} and {priors}; expected (N, {expected[0]}) offsets and "
                f"(N, {expected[1]}) scores for {number} priors and {self.classes} classes{hint if twice else ''}"
            )
        if refined and [count(shape, 1) for shape in refined] != [2 * number, 4 * number]:
            self.fail(
                f"bottoms 3 and 4 have shapes {', '.join(map(str, refined))}; expected RefineDet's (N, {2 * number}) "
                f"scores and (N, {4 * number}) offsets for {number} priors, or neither"
            )
        return [(1, 1, 1, ROW + self.offset_numbers - BOX)]

    def forward(self, *bottoms: Tensor) -> Tensor:
        detect = self._detect_regions if self.of_regions else self._detect
        return suppression.on_host(detect, *(bottom.detach() for bottom in bottoms))

    def _detect_regions(self, maps: Tensor) -> Tensor:
        return region_rows(maps, self.anchors, self.classes, self.confidence_threshold, self.nms_threshold)

    def _priors(self, priors: Tensor) -> tuple[Tensor, Tensor | None]:
        """Boxes and variances (P, 1, 4)."""
        if self.pixels:
            return priors.flatten().view(-1, 1, 5)[..., 1:] / priors.new_tensor(self.pixels * 2), None
        prior, variance = priors.flatten()[: 2 * priors.shape[2]].view(2, -1, 1, 4)
        return prior, None if self.variance_in_target else variance

    def _detect(self, offsets: Tensor, scores: Tensor, priors: Tensor, *refined: Tensor) -> Tensor:
        prior, variance = self._priors(priors)
        images, number = len(offsets), len(prior)
        scores = scores.reshape(images, number, self.classes)
        if refined:
            background = refined[0].reshape(images, number, 2)[..., 1:] < self.objectness
            no_object = torch.arange(self.classes, device=scores.device) == self.background
            scores = torch.where(background, no_object.to(scores.dtype), scores)
            prior = boxes.decode(refined[1].reshape(images, number, 1, 4), prior, variance, self.code_type)
        moves = offsets.reshape(images, number, -1, self.offset_numbers)
        decoded = boxes.decode(moves[..., :BOX], prior, variance, self.code_type)
        if self.offset_numbers == POLYGON and variance is not None:
            decoded = torch.cat((decoded, _corners(moves[..., BOX:], prior, variance)), -1)
        # (N, P, L, 4 or 12) and (N, C, P)
        edges, values = decoded.cpu().numpy(), scores.transpose(1, 2).contiguous().cpu().numpy()
        rows = [self._rows(i, edges[i], values[i]) for i in range(len(scores))]
        found = np.concatenate(rows)
        if not len(found):
            found = np.full((len(scores), ROW + self.offset_numbers - BOX + self.tells_priors), -1.0)
            found[:, 0] = np.arange(len(scores))
        return torch.from_numpy(found).to(offsets.device, offsets.dtype).view(1, 1, len(found), -1)

    def _rows(self, image: int, edges: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """The rows of one image; ``edges`` (P, L, 4 or 12) and ``scores`` (C, P)."""
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
            located = suppression.with_areas(edges[places, 0 if self.share_location else label, :BOX])
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

    def differs_from_opencv(self) -> str:
        if self.of_regions or self.tells_priors:
            return ""  # it did not read them
        eta = "; nms_param.eta counts" if self.eta < 1 else ""
        filled = f" and rows of zeros up to keep_top_k, {self.keep_top_k}" if self.keep_top_k > 0 else ""
        return f"an image's rows are ordered by label, then score{eta}, where OpenCV 4 had the best score first{filled}"

    def to_onnx(self, graph: "OnnxGraph", step: "OnnxStep") -> list[str]:
        if self.of_regions:
            self.fail("YOLO v2's suppression in the cells' order, not the scores', has no ONNX form")
        if self.eta < 1:
            self.fail("nms_param.eta below 1, a threshold that falls from box to box, has no ONNX form")
        images, number = step.size_of(0, 0), step.size_of(2, 2)
        priors = graph.work_out(number, ("Div", 5 if self.pixels else 4))
        prior, variance = self._onnx_priors(graph, step)
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
        offsets = graph.reshape(step.bottoms[0], [images, -1, locations, self.offset_numbers])
        corners = ""
        if self.offset_numbers == POLYGON:
            offsets, corners = graph.add_many("Split", [offsets, graph.sizes([BOX, POLYGON - BOX])], 2, axis=3)
        decoded = onnx_boxes.decode(graph, offsets, prior, variance, self.code_type)
        located = decoded
        if corners and variance is not None:
            corners = self._onnx_corners(graph, corners, prior, variance)
            located = graph.add("Concat", decoded, corners, axis=3)
        scores = graph.add("Transpose", scores, perm=[0, 2, 1])  # (N, C, P)
        if 0 <= self.background < self.classes:
            allowed = graph.constant((np.arange(self.classes) != self.background)[:, None], np.bool_)
            scores = graph.add("Where", allowed, scores, graph.constant(onnx_boxes.LOWEST))
        best = scores if self.top_k < 0 else onnx_boxes.best_of_each(graph, scores, self.top_k, priors)
        kept = self._onnx_suppressed(graph, decoded, best)
        if self.keep_top_k >= 0:
            values_kept = onnx_boxes.pick(graph, scores, kept, [0, 1, 2])
            kept = onnx_boxes.best_of_image(graph, kept, values_kept, self.keep_top_k, images)
        rows = self._onnx_rows(graph, located, scores, kept)
        more = self._onnx_of_priors(graph, step, kept)
        rows = graph.add("Concat", rows, *more, axis=1) if more else rows
        # Where there are none, one row for each image.
        image = graph.unsqueeze(onnx_boxes.numbers(graph, images), [1])
        width = ROW + self.offset_numbers - BOX + len(more)
        blank = graph.add("Pad", image, graph.sizes([0, 0, 0, width - 1]), graph.constant(-1.0))
        none = graph.add("Equal", graph.size(graph.size_at(kept, 0)), graph.sizes([0]))
        blank = graph.choose(blank, graph.add("Expand", none, graph.shape([images])))
        return [graph.reshape(graph.add("Concat", rows, blank, axis=0), [1, 1, -1, width])]

    def _onnx_priors(self, graph: "OnnxGraph", step: "OnnxStep") -> tuple[str, str | None]:
        if self.pixels:
            regions = graph.add("Gather", graph.reshape(step.bottoms[2], [-1, 1, 5]), graph.sizes([1, 2, 3, 4]), axis=2)
            return graph.add("Div", regions, graph.constant([float(size) for size in self.pixels * 2])), None
        rows = graph.reshape(step.bottoms[2], [2, -1, 1, 4])
        prior = graph.add("Gather", rows, graph.sizes([0]), axis=0)
        return prior, None if self.variance_in_target else graph.add("Gather", rows, graph.sizes([1]), axis=0)

    @staticmethod
    def _onnx_corners(graph: "OnnxGraph", moves: str, prior: str, variance: str) -> str:
        first, last = onnx_boxes.halves(graph, prior)
        steps = graph.add("Mul", onnx_boxes.halves(graph, variance)[0], graph.add("Sub", last, first))
        starts = graph.add("Gather", prior, graph.sizes(CORNERS), axis=-1)
        return graph.add("Add", starts, graph.add("Mul", graph.add("Concat", *[steps] * 4, axis=-1), moves))

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


def _corners(moves: Tensor, prior: Tensor, variance: Tensor) -> Tensor:
    """TextBoxes++'s four corners (N, P, L, 8), x and y of each, from the prior's, clockwise from the upper left."""
    sides = prior[..., 2:] - prior[..., :2]
    step = (variance[..., :2] * sides).repeat(1, 1, 4)
    return prior[..., CORNERS] + step * moves
