"""ArgMax: indices, or values, of the top_k largest numbers."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from caffe_compat.layers.base import MAX_COUNT, Layer, Shape, count
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import Dim, OnnxGraph, OnnxStep


@register("ArgMax")
class ArgMax(Layer):
    """With ``axis``: top_k along that axis, indices or (``out_max_val``) values.  Without: over each
    item, (N, 1, top_k, 1, ...) of indices, or (N, 2, top_k, 1, ...) of indices and values.

    Of equal values the one with the *larger* index comes first; PyTorch's argmax takes the smaller.
    """

    param_fields = ("argmax_param",)
    has_backward = False
    graph_safe = True

    def setup(self, bottom: Shape) -> None:
        param = self.param.argmax_param
        self.out_max_val = bool(param.out_max_val)
        self.top_k = int(param.top_k)
        self.axis = int(param.axis) if param.HasField("axis") else None
        if self.top_k < 1:
            self.fail(f"argmax_param.top_k is {self.top_k}; expected at least 1")

    def infer_shapes(self, bottom: Shape) -> list[Shape]:
        if self.axis is not None:
            axis = self.canonical_axis(self.axis, len(bottom), "argmax_param.axis")
            self._check_top_k(bottom[axis], bottom)
            return [(*bottom[:axis], self.top_k, *bottom[axis + 1 :])]
        if not bottom:
            self.fail("the bottom has no axes; expected at least one")
        self._check_top_k(count(bottom, 1), bottom)
        return [(bottom[0], 2 if self.out_max_val else 1, self.top_k, *[1] * (len(bottom) - 3))]

    def _check_top_k(self, candidates: int, bottom: Shape) -> None:
        if self.top_k > candidates:
            self.fail(f"argmax_param.top_k is {self.top_k}; bottom {bottom} has {candidates} values to choose from")

    @torch.no_grad()
    def forward(self, bottom: Tensor) -> Tensor:
        if self.axis is not None:
            values, indices = self._largest(bottom, self.axis)
            return values if self.out_max_val else indices
        values, indices = self._largest(bottom.reshape(bottom.shape[0], -1), 1)
        found = torch.stack((indices, values), 1) if self.out_max_val else indices
        return found.reshape(self.infer_shapes(tuple(bottom.shape))[0])

    def _largest(self, scores: Tensor, axis: int) -> tuple[Tensor, Tensor]:
        # topk leaves the order of ties open; a stable sort of the reversed axis settles it.
        values, places = scores.flip(axis).sort(dim=axis, descending=True, stable=True)
        indices = scores.shape[axis] - 1 - places.narrow(axis, 0, self.top_k)
        return values.narrow(axis, 0, self.top_k), indices.to(scores.dtype)

    def to_onnx(self, graph: "OnnxGraph", step: "OnnxStep") -> list[str]:
        shape = step.bottom_shapes[0]
        if self.axis is not None:
            axis = self.axis % len(shape)
            values, indices = self._onnx_largest(graph, step.bottoms[0], axis, step.dims()[axis])
            return [values if self.out_max_val else graph.to_float32(indices)]
        items = graph.add("Flatten", step.bottoms[0], axis=1)
        varies = step.varies(0, range(1, len(shape)))
        values, indices = self._onnx_largest(graph, items, 1, graph.size_at(items, 1) if varies else count(shape, 1))
        found = graph.unsqueeze(graph.to_float32(indices), [1])
        if self.out_max_val:
            found = graph.add("Concat", found, graph.unsqueeze(graph.to_float32(values), [1]), axis=1)
        found = graph.unsqueeze(found, range(3, len(shape)))
        graph.wide.add(found)
        return [found]

    def _onnx_largest(self, graph: "OnnxGraph", value: str, axis: int, size: "Dim") -> tuple[str, str]:
        # values, which are made only where they are a top, and indices
        if self.top_k == 1 and not self.out_max_val:
            return "", graph.add("ArgMax", value, axis=axis, keepdims=1, select_last_index=1)
        # TopK prefers the smaller index, so that it looks from the end.
        bounds = [graph.sizes([number]) for number in (-1, -MAX_COUNT, axis, -1)]
        backwards = graph.add("Slice", value, *bounds)
        values, places = graph.add_many("TopK", [backwards, graph.sizes([self.top_k])], 2, axis=axis)
        last = (
            graph.sizes([size - 1]) if isinstance(size, int) else graph.add("Sub", graph.size(size), graph.sizes([1]))
        )
        return values, graph.add("Sub", last, places)

    @classmethod
    def example(cls, dice: Dice) -> Example:
        shape = (dice.integer(1, 3), *dice.shape(1, 3))
        axis = dice.integer(0, len(shape) - 1)
        if dice.integer(0, 1):
            fields = f"axis: {axis - len(shape) * dice.integer(0, 1)} top_k: {dice.integer(1, shape[axis])}"
        else:
            fields = f"top_k: {dice.integer(1, count(shape, 1))}"
        return Example(f"argmax_param {{ {fields} out_max_val: {dice.switch()} }}", [dice.normal(*shape)])
