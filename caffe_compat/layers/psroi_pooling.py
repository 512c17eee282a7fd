"""PSROIPooling: the average in each bin of a region, from channels of its own (R-FCN, Dai et al. 2016)."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from caffe_compat.layers.base import Layer, Shape
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared import onnx_boxes
from caffe_compat.layers.shared.example import Dice, Example
from caffe_compat.layers.shared.rois import Bins, check_rois, images_of, random_rois, round_half_away

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import Dim, OnnxGraph, OnnxStep

# The least width and height of a region on the features.
LEAST_SIZE = 0.1


@register("PSROIPooling")
class PSROIPooling(Layer):
    """Bottoms features (N, D g^2, H, W) and regions (R, 5): image, x1, y1, x2, y2 -> top (R, D, g, g).

    D: ``output_dim``; g: ``group_size``.  Bin (i, j) of top channel d is the average of channel (d g + i) g + j.  A
    region goes from round(x1) ``spatial_scale`` to (round(x2) + 1) ``spatial_scale``, halves rounded away from zero;
    bin i from floor(i size / g + start) to before ceil((i + 1) size / g + start), in the bottom's dtype.  What is
    outside the features does not count; a bin without pixels is 0.  There is no gradient to the regions.
    """

    param_fields = ("psroi_pooling_param",)
    bottom_count = (2, 2)
    onnx_float32 = True
    graph_obstacle = "has bins whose sizes depend on the data"

    def setup(self, features: Shape, rois: Shape) -> None:
        param = self.param.psroi_pooling_param
        self.spatial_scale = float(param.spatial_scale)
        self.output_dim, self.group_size = int(param.output_dim), int(param.group_size)
        if self.output_dim < 1 or self.group_size < 1 or self.spatial_scale <= 0:
            self.fail(
                f"psroi_pooling_param has output_dim {self.output_dim}, group_size {self.group_size} and spatial_scale "
                f"{self.spatial_scale}; expected numbers above 0"
            )

    def infer_shapes(self, features: Shape, rois: Shape) -> list[Shape]:
        check_rois(self, features, rois)
        channels = self.output_dim * self.group_size**2
        if features[1] != channels:
            self.fail(f"bottom 0 has shape {features}; expected {channels} channels, output_dim * group_size^2")
        return [(rois[0], self.output_dim, self.group_size, self.group_size)]

    def forward(self, features: Tensor, rois: Tensor) -> Tensor:
        rois, g = rois.detach().reshape(-1, 5), self.group_size
        images = images_of(self, rois, features.shape[0])
        height, width = features.shape[2:]
        start = round_half_away(rois[:, [2, 1]]) * self.spatial_scale
        end = (round_half_away(rois[:, [4, 3]]) + 1) * self.spatial_scale
        size = (end - start).clamp(min=LEAST_SIZE)
        owner, pixels, starts = Bins(
            self._edges(start[:, :1], size[:, :1]), self._edges(start[:, 1:], size[:, 1:]), height, width
        ).pixels()
        # Rows of D numbers, one for each image, bin and pixel: the average of a bag of them is one bin's top.
        table = features.view(-1, self.output_dim, g * g, height * width).permute(0, 2, 3, 1)
        pixels = pixels + (images[owner // (g * g)] * (g * g) + owner % (g * g)) * (height * width)
        top = functional.embedding_bag(pixels, table.reshape(-1, self.output_dim), starts, mode="mean")
        return top.view(-1, g, g, self.output_dim).permute(0, 3, 1, 2)

    def _edges(self, start: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
        """Where bins along one axis begin and end, (R, g)."""
        steps = torch.arange(self.group_size + 1, dtype=size.dtype, device=size.device) * (size / self.group_size)
        edges = steps + start
        return edges[:, :-1].floor(), edges[:, 1:].ceil()

    def to_onnx(self, graph: "OnnxGraph", step: "OnnxStep") -> list[str]:
        # A bin's sum is a product with 0 and 1 along the width, and then along the height.
        g, dim = self.group_size, self.output_dim
        batch, _, height, width = step.dims()
        rois = graph.reshape(step.bottoms[1], [-1, 5])
        rows, row_counts = self._onnx_members(graph, rois, 2, height)
        columns, column_counts = self._onnx_members(graph, rois, 1, width)
        maps = graph.reshape(step.bottoms[0], [batch, dim, g, g, height, width])
        maps = graph.add("Transpose", maps, perm=[0, 2, 3, 5, 1, 4])  # (N, g, g, W, D, H)
        across = graph.reshape(maps, [batch, g, g, width, -1])
        sums = graph.add("MatMul", columns, across)  # (g, R, W) by (N, g, g, W, D H)
        sums = graph.reshape(sums, [batch, g, g, step.size_of(1, 0), dim, height])
        sums = graph.add("MatMul", sums, graph.unsqueeze(graph.unsqueeze(rows, [1]), [4]))  # by (g, 1, R, H, 1)
        sums = graph.add("Squeeze", sums, graph.sizes([5]))  # (N, g, g, R, D)
        if batch != 1:
            images = graph.unsqueeze(onnx_boxes.numbers(graph, batch), [1, 2, 3, 4])
            image = graph.unsqueeze(graph.add("Gather", rois, graph.sizes([0]), axis=1), [0, 1, 2])
            sums = graph.add("Mul", sums, graph.to_float(graph.add("Equal", image, images)))
        sums = graph.add("ReduceSum", sums, graph.sizes([0]), keepdims=0)
        pixels = graph.add("Mul", graph.unsqueeze(row_counts, [1]), column_counts)  # (g, g, R, 1)
        top = graph.add("Div", sums, graph.add("Max", pixels, graph.constant(1.0)))
        return [graph.add("Transpose", top, perm=[2, 3, 0, 1])]

    def _onnx_members(self, graph: "OnnxGraph", rois: str, column: int, size: "Dim") -> tuple[str, str]:
        """Along one axis: which of ``size`` pixels are in each bin (g, R, size), 0 or 1; and how many are (g, R, 1)."""
        corners = (graph.add("Gather", rois, graph.sizes([place]), axis=1) for place in (column, column + 2))
        rounded = [onnx_boxes.round_half_away(graph, corner) for corner in corners]
        start = graph.scale(rounded[0], self.spatial_scale)
        extent = graph.add("Sub", graph.scale(graph.shift(rounded[1], 1.0), self.spatial_scale), start)
        extent = graph.add("Max", extent, graph.constant(LEAST_SIZE))
        part = graph.add("Div", extent, graph.constant(float(self.group_size)))
        # (g, R, 1)
        first, last = (
            graph.add(
                "Add", graph.add("Mul", part, graph.constant(np.arange(self.group_size)[:, None, None] + i)), start
            )
            for i in (0, 1)
        )
        pixels = onnx_boxes.numbers(graph, size)
        inside = graph.add(
            "And",
            graph.add("GreaterOrEqual", pixels, graph.add("Floor", first)),
            graph.add("Less", pixels, graph.add("Ceil", last)),
        )
        members = graph.to_float(inside)
        return members, graph.add("ReduceSum", members, graph.sizes([2]), keepdims=1)

    @classmethod
    def example(cls, dice: Dice) -> Example:
        g, dim = dice.pick(1, 2, 4), dice.integer(1, 3)
        shape = dice.image(dim * g * g)
        fields = f"spatial_scale: 0.5 output_dim: {dim} group_size: {g}"
        return Example(f"psroi_pooling_param {{ {fields} }}", [dice.normal(*shape), random_rois(dice, shape)])
