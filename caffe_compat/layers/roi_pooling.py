"""ROIPooling: the largest value in each bin of a region of interest (Fast R-CNN, Girshick 2015)."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from caffe_compat.layers.base import Layer, Shape
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared import onnx_boxes
from caffe_compat.layers.shared.example import Dice, Example
from caffe_compat.layers.shared.fields import refuse_fields
from caffe_compat.layers.shared.rois import Bins, check_rois, images_of, random_rois, round_half_away

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph, OnnxStep


@register("ROIPooling")
class ROIPooling(Layer):
    """Bottoms features (N, C, H, W) and regions (R, 5): image, x1, y1, x2, y2 -> top (R, C, pooled_h, pooled_w).

    Corners times ``spatial_scale`` are rounded, halves away from zero; both belong to the region, which has at least
    one pixel.  Bin i begins at floor(i size / pooled) and ends before ceil((i + 1) size / pooled), in the bottom's
    dtype; what is outside the features does not count, and a bin without pixels is 0.  ``pad_ratio`` (mscnn) makes the
    region wider and higher by that part of its size on each side first.

    The gradient goes to each bin's first largest pixel, row by row, and none to the regions.
    """

    param_fields = ("roi_pooling_param",)
    bottom_count = (2, 2)
    onnx_float32 = True
    graph_obstacle = "has bins whose sizes depend on the data"

    def setup(self, features: Shape, rois: Shape) -> None:
        refuse_fields(self, "roi_pooling_param", "pooled_size", because="use pooled_h and pooled_w")
        param = self.param.roi_pooling_param
        self.pooled = int(param.pooled_h), int(param.pooled_w)
        self.spatial_scale, self.pad_ratio = float(param.spatial_scale), float(param.pad_ratio)
        if min(self.pooled) < 1:
            self.fail(f"roi_pooling_param.pooled_h and pooled_w are {self.pooled}; expected at least 1 each")

    def infer_shapes(self, features: Shape, rois: Shape) -> list[Shape]:
        check_rois(self, features, rois)
        return [(rois[0], features[1], *self.pooled)]

    def forward(self, features: Tensor, rois: Tensor) -> Tensor:
        rois = rois.detach().reshape(-1, 5)
        images = images_of(self, rois, features.shape[0])
        start, size = self._corners(rois)
        if features.device.type == "cpu" and not torch.compiler.is_compiling():
            return self._crop_by_crop(features, images, start, size)
        return self._bin_by_bin(features, images, start, size)

    def _corners(self, rois: Tensor) -> tuple[Tensor, Tensor]:
        """First pixel and size, each (R, 2): y, x."""
        first, last = rois[:, [2, 1]], rois[:, [4, 3]]
        if self.pad_ratio:
            pad = (last - first + 1) * self.pad_ratio
            first, last = first - pad, last + pad
        start = round_half_away(first * self.spatial_scale)
        return start, (round_half_away(last * self.spatial_scale) - start + 1).clamp(min=1)

    def _edges(self, start: Tensor, size: Tensor, axis: int) -> tuple[Tensor, Tensor]:
        """Where bins along one axis begin and end, (R, pooled)."""
        number = self.pooled[axis]
        steps = torch.arange(number + 1, dtype=size.dtype, device=size.device) * (size[:, axis : axis + 1] / number)
        return steps[:, :-1].floor() + start[:, axis : axis + 1], steps[:, 1:].ceil() + start[:, axis : axis + 1]

    def _bin_by_bin(self, features: Tensor, images: Tensor, start: Tensor, size: Tensor) -> Tensor:
        channels, height, width = features.shape[1:]
        bins = Bins(self._edges(start, size, 0), self._edges(start, size, 1), height, width)
        owner, pixels, starts = bins.pixels()
        pixels = pixels + images[owner // (self.pooled[0] * self.pooled[1])] * (height * width)
        # rows of channels; an embedding bag's maximum is the first largest one, and 0 for no pixel
        table = features.permute(0, 2, 3, 1).reshape(-1, channels)
        top = functional.embedding_bag(pixels, table, starts, mode="max")
        return top.view(-1, *self.pooled, channels).permute(0, 3, 1, 2)

    def _crop_by_crop(self, features: Tensor, images: Tensor, start: Tensor, size: Tensor) -> Tensor:
        """The same for each region by PyTorch's adaptive pooling, many times faster on a CPU; a region is padded with
        the smallest number where it is partly outside."""
        exact = self._adaptive_bins_agree(size)
        height, width = features.shape[2:]
        # With channels last, each step of a bin takes all channels at once.
        table = features.contiguous(memory_format=torch.channels_last)
        tops: list[Tensor] = []
        for i, (image, (y, x), (h, w)) in enumerate(
            zip(images.tolist(), start.long().tolist(), size.long().tolist(), strict=True)
        ):
            rows, columns = (max(y, 0), min(y + h, height)), (max(x, 0), min(x + w, width))
            one = slice(i, i + 1)
            if not exact[i] or rows[0] >= rows[1] or columns[0] >= columns[1]:
                tops.append(self._bin_by_bin(features, images[one], start[one], size[one]))
                continue
            crop = table[image : image + 1, :, rows[0] : rows[1], columns[0] : columns[1]]
            outside = (columns[0] - x, x + w - columns[1], rows[0] - y, y + h - rows[1])
            if any(outside):
                crop = functional.pad(crop, outside, value=-torch.inf).contiguous(memory_format=torch.channels_last)
            top = functional.adaptive_max_pool2d(crop, self.pooled)
            tops.append(torch.where(top == -torch.inf, 0, top) if any(outside) else top)
        return torch.cat(tops) if tops else features.new_empty(0, features.shape[1], *self.pooled)

    def _adaptive_bins_agree(self, size: Tensor) -> list[bool]:
        """Whether the bins of each region, rounded in its dtype, are those of exact numbers, (R,)."""
        agree = torch.ones(len(size), dtype=torch.bool)
        for axis, number in enumerate(self.pooled):
            first, end = self._edges(torch.zeros_like(size), size, axis)
            steps = torch.arange(number + 1) * size[:, axis : axis + 1].long()
            agree &= (first.long() == steps[:, :-1] // number).all(1)
            agree &= (end.long() == -(-steps[:, 1:] // number)).all(1)
        return agree.tolist()

    def to_onnx(self, graph: "OnnxGraph", step: "OnnxStep") -> list[str]:
        rois = graph.reshape(step.bottoms[1], [-1, 5])
        if self.pad_ratio:
            image, first, last = graph.add_many("Split", [rois, graph.sizes([1, 2, 2])], 3, axis=1)
            pad = graph.scale(graph.shift(graph.add("Sub", last, first), 1.0), self.pad_ratio)
            rois = graph.add("Concat", image, graph.add("Sub", first, pad), graph.add("Add", last, pad), axis=1)
        if step.varies(0, (2, 3)):
            pooled = {"pooled_shape": self.pooled, "spatial_scale": self.spatial_scale}
            return [graph.add("MaxRoiPool", step.bottoms[0], rois, **pooled)]
        return [self._onnx_windows(graph, step, rois)]

    def _onnx_windows(self, graph: "OnnxGraph", step: "OnnxStep", rois: str) -> str:
        """The same without MaxRoiPool, which neither OpenCV 5 nor TensorRT reads: a bin is covered by four windows
        whose sides are powers of 2, the largest that fit, and the largest values of all windows are worked out
        first (a sparse table, Bender and Farach-Colton 2000), each from two of half the size."""
        channels, height, width = step.bottom_shapes[0][1:]
        maps = graph.add("Transpose", step.bottoms[0], perm=[0, 2, 3, 1])
        tables: list[str] = []
        starts: list[int] = []  # of each height and width of window: where its values begin
        total = 0
        for level, rows in enumerate(_doubled(graph, maps, 1, height)):
            for power, table in enumerate(_doubled(graph, rows, 2, width)):
                starts.append(total)
                places = (height - 2**level + 1) * (width - 2**power + 1)
                tables.append(graph.reshape(table, [step.size_of(0, 0), places, channels]))
                total += places
        table = graph.add("Concat", *tables, axis=1) if len(tables) > 1 else tables[0]
        table = graph.reshape(table, [-1, channels])
        down, across = self._onnx_bins(graph, rois, 0, height), self._onnx_bins(graph, rois, 1, width)
        levels, powers = graph.unsqueeze(down[0], [2]), graph.unsqueeze(across[0], [1])
        kind = graph.add(
            "Add", graph.add("Mul", levels, graph.constant(width.bit_length(), np.int64)), powers
        )  # (R, ph, pw)
        start = graph.add("Gather", graph.constant(starts, np.int64), kind)
        row_length = graph.add("Gather", graph.constant(_lengths(width), np.int64), powers)
        if step.size_of(0, 0) != 1:
            image = graph.to_index(graph.add("Gather", rois, graph.sizes([0]), axis=1))
            start = graph.add(
                "Add", start, graph.unsqueeze(graph.add("Mul", image, graph.constant(total, np.int64)), [2])
            )
        best = ""
        for y in down[1:3]:
            row = graph.add("Add", start, graph.add("Mul", graph.unsqueeze(y, [2]), row_length))
            for x in across[1:3]:
                window = graph.add("Gather", table, graph.add("Add", row, graph.unsqueeze(x, [1])), axis=0)
                best = graph.add("Max", best, window) if best else window  # (R, ph, pw, C)
        full = graph.add("And", graph.unsqueeze(down[3], [2]), graph.unsqueeze(across[3], [1]))
        best = graph.add("Where", graph.unsqueeze(full, [3]), best, graph.constant(0.0))
        return graph.add("Transpose", best, perm=[0, 3, 1, 2])

    def _onnx_bins(self, graph: "OnnxGraph", rois: str, axis: int, size: int) -> tuple[str, str, str, str]:
        """Along one axis of ``size`` pixels, of each bin (R, pooled): the power of 2 of its windows, where the first
        and the second window begin, and whether there is a pixel."""
        number = self.pooled[axis]
        corners = (graph.add("Gather", rois, graph.sizes([column - axis]), axis=1) for column in (2, 4))
        start, last = (onnx_boxes.round_half_away(graph, graph.scale(corner, self.spatial_scale)) for corner in corners)
        extent = graph.add("Max", graph.shift(graph.add("Sub", last, start), 1.0), graph.constant(1.0))  # (R, 1)
        part = graph.add("Div", extent, graph.constant(float(number)))
        bounds = graph.constant(0.0), graph.constant(float(size))
        first, end = (
            graph.add("Max", graph.add("Min", graph.add("Add", edge, start), bounds[1]), bounds[0])
            for edge in (
                graph.add("Floor", graph.add("Mul", part, graph.constant(np.arange(number)[None]))),
                graph.add("Ceil", graph.add("Mul", part, graph.constant(np.arange(1, number + 1)[None]))),
            )
        )
        full = graph.add("Greater", end, first)
        length = graph.to_index(graph.add("Max", graph.add("Sub", end, first), graph.constant(1.0)))
        # of a length: the largest power of 2 that fits
        powers = [max(pixels, 1).bit_length() - 1 for pixels in range(size + 1)]
        power = graph.add("Gather", graph.constant(powers, np.int64), length)
        first = graph.to_index(graph.add("Min", first, graph.constant(float(size - 1))))
        longer = graph.add("Gather", graph.constant([n - 2**k for n, k in enumerate(powers)], np.int64), length)
        return power, first, graph.add("Add", first, longer), full

    @classmethod
    def example(cls, dice: Dice) -> Example:
        shape = dice.image()
        fields = f"pooled_h: {dice.integer(1, 4)} pooled_w: {dice.integer(1, 4)} spatial_scale: 0.5"
        return Example(f"roi_pooling_param {{ {fields} }}", [dice.normal(*shape), random_rois(dice, shape)])


def _lengths(size: int) -> list[int]:
    """How many windows of 1, 2, 4, ... pixels an axis of ``size`` pixels has."""
    return [size - 2**power + 1 for power in range(size.bit_length())]


def _doubled(graph: "OnnxGraph", values: str, axis: int, size: int) -> list[str]:
    """The largest values of all windows of 1, 2, 4, ... along one axis of ``size``."""
    found = [values]
    for power, length in enumerate(_lengths(size)[1:]):
        half = 2**power
        pair = [
            graph.add("Slice", found[-1], graph.sizes([first]), graph.sizes([first + length]), graph.sizes([axis]))
            for first in (0, half)
        ]
        found.append(graph.add("Max", *pair))
    return found
