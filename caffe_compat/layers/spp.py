"""SPP: pyramid of 1x1, 2x2, 4x4, ... bins over the whole bottom (He et al., ECCV 2014)."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from caffe_compat.layers.base import Layer, Shape, count
from caffe_compat.layers.pooling import Pooling
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example
from caffe_compat.proto import caffe_pb2

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph, OnnxStep


@register("SPP")
class SPP(Layer):
    """Bottom (N, C, H, W) -> top (N, C * (1 + 4 + 16 + ...)), one term per level; with
    ``pyramid_height: 1`` top (N, C, 1, 1)."""

    param_fields = ("spp_param",)
    graph_safe = True
    keeps_forward = True
    drawing_kind = "shape"

    def setup(self, bottom: Shape) -> None:
        self.height = int(self.param.spp_param.pyramid_height)
        if self.height < 1:
            self.fail("spp_param.pyramid_height is missing or 0; expected at least 1")
        self._levels: dict[tuple[int, int], list[Pooling]] = {}

    def infer_shapes(self, bottom: Shape) -> list[Shape]:
        if len(bottom) != 4 or min(bottom[2:]) < 1:
            self.fail(f"bottom has shape {bottom}; expected 4 axes (N, C, H, W) with H and W at least 1")
        tops = [pooling.infer_shapes(bottom)[0] for pooling in self._poolings(bottom[2], bottom[3])]
        return tops if self.height == 1 else [(bottom[0], sum(count(top, 1) for top in tops))]

    def _poolings(self, height: int, width: int) -> list[Pooling]:
        # Made once per size of bottom: their windows depend on it.
        if (height, width) not in self._levels:
            self._levels[height, width] = [self._make_level(2**i, height, width) for i in range(self.height)]
        return self._levels[height, width]

    def _make_level(self, bins: int, height: int, width: int) -> Pooling:
        """Pooling whose ``bins`` x ``bins`` windows cover the bottom and its padding."""
        kernel_h, kernel_w = -(-height // bins), -(-width // bins)
        pad_h, pad_w = (kernel_h * bins - height + 1) // 2, (kernel_w * bins - width + 1) // 2
        if pad_h >= kernel_h or pad_w >= kernel_w:
            self.fail(f"a bottom of {height} x {width} is too small for {bins} x {bins} bins; lower pyramid_height")
        param = caffe_pb2.LayerParameter(name=self.name, type="Pooling", top=["pooled"])
        pooling = param.pooling_param
        method = caffe_pb2.SPPParameter.PoolMethod.Name(self.param.spp_param.pool)
        pooling.MergeFrom(caffe_pb2.PoolingParameter(pool=method))
        pooling.kernel_h, pooling.kernel_w = kernel_h, kernel_w
        pooling.stride_h, pooling.stride_w = kernel_h, kernel_w
        pooling.pad_h, pooling.pad_w = pad_h, pad_w
        level = Pooling(param, self.context)
        level.setup((1, 1, height, width))
        return level

    def forward(self, bottom: Tensor) -> Tensor:
        tops = [pooling(bottom) for pooling in self._poolings(bottom.shape[2], bottom.shape[3])]
        return tops[0] if self.height == 1 else torch.cat([top.flatten(1) for top in tops], 1)

    def to_onnx(self, graph: "OnnxGraph", step: "OnnxStep") -> list[str]:
        if step.varies(0, (2, 3)):
            tops = [self._onnx_bins(graph, step.bottoms[0], 2**i) for i in range(self.height)]
        else:
            tops = []
            for pooling in self._poolings(*step.bottom_shapes[0][2:]):
                shapes = pooling.infer_shapes(step.bottom_shapes[0])
                tops += pooling.to_onnx(graph, step._replace(top_shapes=shapes))
        if self.height == 1:
            return tops
        return [graph.add("Concat", *(graph.add("Flatten", top, axis=1) for top in tops), axis=1)]

    def _onnx_bins(self, graph: "OnnxGraph", value: str, bins: int) -> str:
        """``bins`` x ``bins`` windows over a map of any size, by the rule of ``_make_level``: rows, then columns."""
        for axis in (2, 3):
            value = self._onnx_bins_along(graph, value, bins, axis)
        return value

    def _onnx_bins_along(self, graph: "OnnxGraph", value: str, bins: int, axis: int) -> str:
        size, number, axes = graph.size(graph.size_at(value, axis)), graph.sizes([bins]), graph.sizes([axis])
        kernel = graph.add("Div", graph.add("Add", size, graph.sizes([bins - 1])), number)
        over = graph.add("Sub", graph.add("Mul", kernel, number), size)
        pad = graph.add("Div", graph.add("Add", over, graph.sizes([1])), graph.sizes([2]))
        end, parts = graph.add("Add", size, pad), []
        for place in range(bins):
            start = graph.add("Sub", graph.add("Mul", kernel, graph.sizes([place])), pad)
            stop = graph.add("Add", start, kernel)
            inside = graph.add("Max", start, graph.sizes([0])), graph.add("Min", stop, size)
            part = graph.add("Slice", value, *inside, axes)
            if self.param.spp_param.pool == self.param.spp_param.MAX:
                parts.append(graph.add("ReduceMax", part, axes, keepdims=1))
                continue
            length = graph.to_float(graph.add("Sub", graph.add("Min", stop, end), start))
            parts.append(graph.add("Div", graph.add("ReduceSum", part, axes, keepdims=1), length))
        return graph.add("Concat", *parts, axis=axis)

    @classmethod
    def example(cls, dice: Dice) -> Example:
        fields = f"pyramid_height: {dice.integer(1, 3)} pool: {dice.pick('MAX', 'AVE')}"
        # Three levels, 4 x 4 bins, need at least 7 x 7.
        shape = dice.integer(1, 3), dice.integer(1, 4), dice.integer(7, 9), dice.integer(7, 9)
        return Example(f"spp_param {{ {fields} }}", [dice.normal(*shape)])
