"""Eltwise: sum with coefficients, product or maximum of blobs of one shape."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from caffe_compat.layers.base import Layer, Shape
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example
from caffe_compat.layers.shared.neuron import is_in_place
from caffe_compat.proto import caffe_pb2

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph, OnnxStep


class _UnstableProduct(torch.autograd.Function):
    """Product whose gradient divides by each factor: nan or inf where a factor is 0."""

    @staticmethod
    def forward(ctx: Any, *bottoms: Tensor) -> Tensor:
        top = math.prod(bottoms[1:], start=bottoms[0])
        ctx.save_for_backward(top, *bottoms)
        return top

    @staticmethod
    def backward(ctx: Any, top_diff: Tensor) -> tuple[Tensor | None, ...]:
        top, *bottoms = ctx.saved_tensors
        return tuple(
            top / bottom * top_diff if needed else None
            for bottom, needed in zip(bottoms, ctx.needs_input_grad, strict=True)
        )


class _InPlace(torch.autograd.Function):
    """Caffe's numbers when the top is written over bottom 0 while it is still being read."""

    @staticmethod
    def forward(ctx: Any, layer: "Eltwise", *bottoms: Tensor) -> Tensor:
        if layer.operation == "PROD":
            top = layer.compute(bottoms)
        else:
            # SUM and MAX first set the top, and so bottom 0, to 0 or to the least float.
            start = 0.0 if layer.operation == "SUM" else torch.finfo(torch.float32).min
            top = layer.compute((torch.full_like(bottoms[0], start), *bottoms[1:]))
        ctx.save_for_backward(top, *bottoms[1:])
        ctx.layer = layer
        return top

    @staticmethod
    def backward(ctx: Any, diff: Tensor) -> tuple[Tensor | None, ...]:
        layer: Eltwise = ctx.layer
        blobs = ctx.saved_tensors
        gradients: list[Tensor | None] = [None]
        for i, needed in enumerate(ctx.needs_input_grad[1:]):
            if not needed:
                gradients.append(None)
                continue
            if layer.operation == "SUM":
                gradient = diff * layer.coeffs[i]
            elif layer.operation == "MAX":
                gradient = torch.where(_wins_in_place(blobs, i), diff, 0)
            else:
                others = [blob for j, blob in enumerate(blobs) if j != i]
                factor = math.prod(others[1:], start=others[0]) if layer.stable_prod_grad else blobs[0] / blobs[i]
                gradient = factor * (diff if i else factor)
            # Bottom 0's gradient lies where top_diff lay, for the other bottoms to read.
            diff = diff if i else gradient
            gradients.append(gradient)
        return tuple(gradients)


def _wins_in_place(blobs: Sequence[Tensor], i: int) -> Tensor:
    """Where bottom ``i`` is the first to equal the maximum ``blobs[0]``; never bottom 0, which is lost."""
    wins = torch.full_like(blobs[0], i > 0, dtype=torch.bool)
    for j in range(1, i + 1):
        wins = wins & ((blobs[j] == blobs[0]) == (j == i))
    return wins


@register("Eltwise")
class Eltwise(Layer):
    """MAX: of two equal first bottoms the second gets the gradient; later ones must be larger.

    PyTorch's maximum would share it.  In place (top named as bottom 0) Caffe's SUM and MAX lose
    bottom 0; the result is matched, with a warning.
    """

    param_fields = ("eltwise_param",)
    bottom_count = (2, None)
    graph_safe = True

    def setup(self, *bottoms: Shape) -> None:
        param = self.param.eltwise_param
        self.operation = param.EltwiseOp.Name(param.operation)
        self.coeffs = tuple(param.coeff) or (1.0,) * len(bottoms)
        self.stable_prod_grad = bool(param.stable_prod_grad)
        self.in_place = is_in_place(self)
        self.keeps_forward = self.operation == "MAX"
        if len(self.coeffs) != len(bottoms):
            self.fail(f"{len(self.coeffs)} eltwise_param.coeff for {len(bottoms)} bottoms; expected one each, or none")
        if param.coeff and self.operation == "PROD":
            self.fail("eltwise_param.coeff is given for operation PROD; only SUM takes coefficients")
        if param.coeff and self.operation == "MAX":
            self.warn("eltwise_param.coeff has no effect on operation MAX, as in Caffe; remove it")
        if self.in_place:
            self.warn(f"{self.operation} overwrites bottom 0 while reading it, as in Caffe; rename the top")

    def infer_shapes(self, *bottoms: Shape) -> list[Shape]:
        for i, shape in enumerate(bottoms):
            if shape != bottoms[0]:
                self.fail(f"bottom {i} has shape {shape}, bottom 0 {bottoms[0]}; expected the same")
        return [bottoms[0]]

    def forward(self, *bottoms: Tensor) -> Tensor:
        top: Tensor
        if self.in_place:
            top = _InPlace.apply(self, *bottoms)
        elif self.operation == "PROD" and not self.stable_prod_grad:
            top = _UnstableProduct.apply(*bottoms)
        else:
            top = self.compute(bottoms)
        return top

    def compute(self, bottoms: Sequence[Tensor]) -> Tensor:
        """The operation itself, with autograd's gradient."""
        top = bottoms[0]
        if self.operation == "SUM":
            terms = [b if c == 1 else b * c for b, c in zip(bottoms, self.coeffs, strict=True)]
            return sum(terms[1:], start=terms[0])
        if self.operation == "PROD":
            return math.prod(bottoms[1:], start=top)
        for i, bottom in enumerate(bottoms[1:], 1):
            # Not torch.maximum: ties go by Caffe's rule, and a nan never wins over a later blob.
            top = torch.where(top > bottom, top, bottom) if i == 1 else torch.where(bottom > top, bottom, top)
        return top

    def to_onnx(self, graph: "OnnxGraph", step: "OnnxStep") -> list[str]:
        # In place SUM and MAX begin with 0 and -FLT_MAX in bottom 0.
        lost = self.in_place and self.operation != "PROD"
        bottoms, coeffs = step.bottoms[lost:], self.coeffs[lost:]
        if self.operation == "SUM":
            return [graph.add("Sum", *(graph.scale(b, c) for b, c in zip(bottoms, coeffs, strict=True)))]
        if self.operation == "MAX":
            least = [graph.constant(torch.finfo(torch.float32).min)] if lost else []
            return [graph.add("Max", *bottoms, *least)]
        top = bottoms[0]
        for bottom in bottoms[1:]:
            top = graph.add("Mul", top, bottom)
        return [top]

    @classmethod
    def drawing_details(cls, param: caffe_pb2.LayerParameter) -> list[str]:
        return [param.eltwise_param.EltwiseOp.Name(param.eltwise_param.operation)]

    @classmethod
    def example(cls, dice: Dice) -> Example:
        shape, number = dice.shape(), dice.integer(2, 4)
        operation = dice.pick("SUM", "PROD", "MAX")
        coefficients = " ".join(f"coeff: {dice.number(-2, 2)}" for _ in range(number)) if operation == "SUM" else ""
        fields = f"operation: {operation} stable_prod_grad: {dice.switch()} {coefficients}"
        return Example(f"eltwise_param {{ {fields} }}", [dice.normal(*shape) for _ in range(number)])
