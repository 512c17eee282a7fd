"""Resample: resize by the nearest pixel, or by a linear or cubic filter that widens where it shrinks (FlowNet)."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from caffe_compat.layers.base import Layer, Shape
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph, OnnxStep


def _triangle(x: Tensor) -> Tensor:
    return (1 - x.abs()).clamp(min=0)


def _cubic(x: Tensor) -> Tensor:
    """Keys' kernel with a = -1/2."""
    x = x.abs()
    near, far = x * x * (1.5 * x - 2.5) + 1, x * (x * (-0.5 * x + 2.5) - 4) + 2
    return torch.where(x <= 1, near, torch.where(x < 2, far, 0))


#: type -> filter, and how many pixels it spans by FlowNet's count
FILTERS: dict[str, tuple[Callable[[Tensor], Tensor], int]] = {"LINEAR": (_triangle, 2), "CUBIC": (_cubic, 4)}


@register("Resample")
class Resample(Layer):
    """Bottom (N, C, H, W) -> top (N, C, H', W') of ``height`` and ``width``, or of the second bottom's size.

    Each row and column of the top is a weighted mean of those of the bottom around its place, by a triangle or cubic
    filter; where an axis shrinks and ``antialias`` is set, the filter is as much wider as the axis shrinks.  FlowNet's
    centre of pixel x is x f + g / 2 - 1/2, with f the axis' own factor and g the *other* axis'.
    """

    param_fields = ("resample_param",)
    bottom_count = (1, 2)
    graph_safe = True
    drawing_kind = "shape"

    def setup(self, bottom: Shape, like: Shape | None = None) -> None:
        param = self.param.resample_param
        self.method: str = param.ResampleType.Name(param.type)
        self.antialias = bool(param.antialias)
        if self.method == "AREA":
            self.fail("resample_param.type is AREA; expected NEAREST, LINEAR or CUBIC, as in FlowNet")
        if param.HasField("factor"):
            self.warn("resample_param.factor has no effect, as in FlowNet; set height and width")
        self.sizes = None if like is not None else (int(param.height), int(param.width))
        if self.sizes is not None and min(self.sizes) < 1:
            self.fail(f"resample_param has height and width {self.sizes}; expected both, or a second bottom")

    def differs_from_opencv(self) -> str:
        return "LINEAR is FlowNet's, where OpenCV 4 had another interpolation" if self.method == "LINEAR" else ""

    def infer_shapes(self, bottom: Shape, like: Shape | None = None) -> list[Shape]:
        if len(bottom) != 4 or (like is not None and len(like) != 4):
            self.fail(f"bottoms have shapes {bottom} and {like}; expected 4 axes (N, C, H, W)")
        return [(*bottom[:2], *(self.sizes or like[2:]))]  # type: ignore[index]

    def _weights(self, sizes: Shape, outputs: Shape, device: torch.device) -> list[Tensor]:
        """For each axis (outputs, size), float64: how much of each row or column of the bottom one of the top takes."""
        fy, fx = (size / output for size, output in zip(sizes, outputs, strict=True))
        narrowings = (1 / fy, 1 / fx) if self.antialias and max(fy, fx) > 1 else (1.0, 1.0)
        made = []
        for size, output, factor, other, narrowing in zip(sizes, outputs, (fy, fx), (fx, fy), narrowings, strict=True):
            places = torch.arange(output, dtype=torch.float64, device=device) * factor + (other / 2 - 0.5)
            made.append(self._axis_weights(places.unsqueeze(1), size, factor, narrowing))
        return made

    def _axis_weights(self, places: Tensor, size: int, factor: float, narrowing: float) -> Tensor:
        """places (outputs, 1), in pixels of the bottom -> (outputs, size)"""
        nearest = places.sign() * (places.abs() + 0.5).floor()  # half away from zero, as C rounds
        pixels = torch.arange(size, dtype=torch.float64, device=places.device)
        if self.method == "NEAREST":
            return (pixels == nearest.clamp(0, size - 1)).double()
        kernel, span = FILTERS[self.method]
        radius = 2 if factor < 1 else math.ceil(span / narrowing)
        weights = kernel((places - pixels) * narrowing) * ((pixels - nearest).abs() <= radius)
        total = weights.sum(1, keepdim=True)
        return torch.where(total == 0, 0, weights / total)

    def forward(self, bottom: Tensor, like: Tensor | None = None) -> Tensor:
        outputs = self.sizes if like is None else tuple(like.shape[2:])
        assert outputs is not None
        rows, columns = (w.to(bottom.dtype) for w in self._weights(tuple(bottom.shape[2:]), outputs, bottom.device))
        return rows @ bottom @ columns.t()

    def to_onnx(self, graph: "OnnxGraph", step: "OnnxStep") -> list[str]:
        if step.varies(0, (2, 3)) or (len(step.bottoms) > 1 and step.varies(1, (2, 3))):
            self.fail("its weights need a fixed height and width")
        rows, columns = self._weights(step.bottom_shapes[0][2:], step.top_shapes[0][2:], torch.device("cpu"))
        product = graph.add("MatMul", graph.constant(rows), step.bottoms[0])
        return [graph.add("MatMul", product, graph.constant(columns.t()))]

    @classmethod
    def example(cls, dice: Dice) -> Example:
        shape = dice.image()
        method = f"type: {dice.pick('NEAREST', 'LINEAR', 'CUBIC')} antialias: {dice.switch()}"
        sizes = (dice.integer(2, 12), dice.integer(2, 12))
        if dice.integer(0, 1):
            return Example(f"resample_param {{ {method} }}", [dice.normal(*shape), dice.normal(1, 1, *sizes)])
        fields = f"{method} height: {sizes[0]} width: {sizes[1]}"
        return Example(f"resample_param {{ {fields} }}", [dice.normal(*shape)])
