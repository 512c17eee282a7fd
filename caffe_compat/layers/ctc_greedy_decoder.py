"""CTCGreedyDecoder: the labels that a network's outputs over time spell, best label by label (Caffe with CTC)."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from caffe_compat.layers.base import Layer, Shape
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph, OnnxStep


@register("CTCGreedyDecoder")
class CTCGreedyDecoder(Layer):
    """Bottoms scores (T, N, C) and indicators (T, N) -> tops sequences (N, T, 1, 1), labels and then -1, and, if there
    is a second, scores (N, 1, 1, 1): the negative sum of each step's largest score.

    A sequence ends before the first indicator that is 0 after step 0.  Each step's label is that of its largest score,
    of equal ones the first; blanks (``ctc_decoder_param.blank_index``, below 0 the last label) are left out, and with
    ``ctc_merge_repeated`` labels that repeat the step before.  Gradients: none.
    """

    param_fields = ("ctc_decoder_param",)
    bottom_count = (2, 2)
    top_count = (1, 2)
    has_backward = False
    onnx_float32 = True
    graph_safe = True

    def setup(self, scores: Shape, indicators: Shape) -> None:
        param = self.param.ctc_decoder_param
        self.blank, self.merge = int(param.blank_index), bool(param.ctc_merge_repeated)

    def infer_shapes(self, scores: Shape, indicators: Shape) -> list[Shape]:
        if len(scores) < 3 or any(size != 1 for size in (*scores[3:], *indicators[2:])):
            self.fail(f"bottoms have shapes {scores} and {indicators}; expected (T, N, C) and (T, N)")
        if indicators[:2] != scores[:2] or not scores[0]:
            self.fail(f"bottoms have shapes {scores} and {indicators}; expected the same T, at least 1, and N")
        tops: list[Shape] = [(scores[1], scores[0], 1, 1), (scores[1], 1, 1, 1)]
        return tops[: self.num_tops]

    def forward(self, scores: Tensor, indicators: Tensor) -> Tensor | tuple[Tensor, ...]:
        steps, items, classes = scores.shape[:3]
        values = scores.detach().reshape(steps, items, classes)
        best = values.amax(2)
        # argmax leaves open which of equal scores it takes.
        label = (values == best.unsqueeze(2)).to(torch.int8).argmax(2)
        ends = indicators.detach().reshape(steps, items) == 0
        inside = torch.cat((torch.zeros_like(ends[:1]), ends[1:])).long().cumsum(0) == 0
        stays = inside & (label != (classes - 1 if self.blank < 0 else self.blank))
        if self.merge:
            stays = stays & torch.cat((torch.ones_like(stays[:1]), label[1:] != label[:-1]))
        # Labels that do not stay go to a place behind the last.
        place = torch.where(stays, stays.long().cumsum(0) - 1, steps)
        sequences = values.new_full((steps + 1, items), -1.0).scatter(0, place, label.to(values.dtype))[:steps]
        tops = (sequences.t().reshape(items, steps, 1, 1), -(best * inside).sum(0).view(items, 1, 1, 1))
        return tops if self.num_tops > 1 else tops[0]

    def to_onnx(self, graph: "OnnxGraph", step: "OnnxStep") -> list[str]:
        steps, items, classes = step.bottom_shapes[0][:3]
        if step.varies(0, (0, 1, 2)):
            self.fail("has an ONNX form for fixed sizes only")
        values = graph.reshape(step.bottoms[0], [steps, items, classes])
        best = graph.add("ReduceMax", values, graph.sizes([2]), keepdims=0)
        label = graph.add("ArgMax", values, axis=2, keepdims=0)
        indicators = graph.reshape(step.bottoms[1], [steps, items])
        ends = graph.add("Equal", indicators, graph.constant(0.0))
        later = graph.constant(np.arange(steps)[:, None] > 0, np.bool_)
        ended = graph.add("CumSum", self._whole(graph, graph.add("And", ends, later)), graph.constant(0, np.int64))
        inside = graph.add("Equal", ended, graph.sizes([0]))
        blank = graph.add("Equal", label, graph.sizes([classes - 1 if self.blank < 0 else self.blank]))
        stays = graph.add("And", inside, graph.add("Not", blank))
        if self.merge and steps > 1:
            bounds = [graph.sizes([number]) for number in (0, steps - 1, 1, steps)]
            before = graph.add("Slice", label, bounds[0], bounds[1], bounds[0])
            after = graph.add("Slice", label, bounds[2], bounds[3], bounds[0])
            first = graph.constant(np.zeros((1, items)), np.bool_)
            repeats = graph.add("Concat", first, graph.add("Equal", before, after), axis=0)
            stays = graph.add("And", stays, graph.add("Not", repeats))
        place = graph.add("CumSum", self._whole(graph, stays), graph.constant(0, np.int64))
        place = graph.add("Where", stays, graph.add("Sub", place, graph.sizes([1])), graph.sizes([steps]))
        nothing = graph.constant(np.full((steps + 1, items), -1.0))
        found = graph.add("ScatterElements", nothing, place, graph.to_float(label), axis=0)
        found = graph.add("Slice", found, graph.sizes([0]), graph.sizes([steps]), graph.sizes([0]))
        sequences = graph.reshape(graph.add("Transpose", found, perm=[1, 0]), [items, steps, 1, 1])
        sums = graph.add("ReduceSum", graph.add("Mul", best, graph.to_float(inside)), graph.sizes([0]), keepdims=0)
        return [sequences, graph.reshape(graph.add("Neg", sums), [items, 1, 1, 1])][: self.num_tops]

    @staticmethod
    def _whole(graph: "OnnxGraph", values: str) -> str:
        return graph.add("Where", values, graph.sizes([1]), graph.sizes([0]))

    @classmethod
    def example(cls, dice: Dice) -> Example:
        steps, items, classes = dice.integer(1, 6), dice.integer(1, 3), dice.integer(2, 3)
        fields = f"ctc_merge_repeated: {dice.switch()} blank_index: {dice.pick(-1, 0)}"
        indicators = (dice.positive(steps, items) > 0.3).astype("float32")
        bottoms = [dice.normal(steps, items, classes), indicators]
        return Example(f"ctc_decoder_param {{ {fields} }}", bottoms, tops=dice.integer(1, 2))
