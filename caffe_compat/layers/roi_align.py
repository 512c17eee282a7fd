"""ROIAlign: interpolated values in a region of interest (Mask R-CNN, He et al. 2017); two layers of one name."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from caffe_compat.layers.base import Layer, Shape
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example
from caffe_compat.layers.shared.fields import refuse_fields
from caffe_compat.layers.shared.rois import check_rois, images_of, random_rois

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph, OnnxStep

# Regions that are computed at a time, to bound the memory.
CHUNK = 64


@register("ROIAlign")
class ROIAlign(Layer):
    """Bottoms features (N, C, H, W) and regions (R, 5): image, x1, y1, x2, y2 -> top (R, C, height, width).

    With ``roi_align_param``, Mask R-CNN's (Caffe2, Detectron): the region, its corners times ``spatial_scale`` and at
    least 1 by 1, has ``pooled_h`` by ``pooled_w`` bins, each the average of ``sampling_ratio`` by ``sampling_ratio``
    evenly placed points (0 or less: as many as a bin's height and width, rounded up); a point more than one pixel
    outside is 0.

    With ``roi_pooling_param``, Cascade R-CNN's: the top is (R, C, pooled_h + 1, pooled_w + 1), the bins' corners; the
    region is first made wider and higher by ``pad_ratio`` of its size on each side, and moved by half a pixel; a corner
    more than half a pixel outside is 0, and so is a region turned inside out.

    Points are interpolated between four pixels.  There is no gradient to the regions.
    """

    param_fields = ("roi_align_param", "roi_pooling_param")
    bottom_count = (2, 2)
    onnx_float32 = True
    graph_obstacle = "has regions whose images and sizes depend on the data"

    def setup(self, features: Shape, rois: Shape) -> None:
        self.is_grid = self.param.HasField("roi_pooling_param")
        if self.is_grid == self.param.HasField("roi_align_param"):
            self.fail("expected either roi_align_param (Mask R-CNN) or roi_pooling_param (Cascade R-CNN)")
        name = "roi_pooling_param" if self.is_grid else "roi_align_param"
        param = getattr(self.param, name)
        unread = ("pooled_size",) if self.is_grid else ("roi_end_mode", "pad_ratio")
        refuse_fields(self, name, *unread, because="remove it")
        self.pooled, self.spatial_scale = (int(param.pooled_h), int(param.pooled_w)), float(param.spatial_scale)
        self.pad_ratio = float(param.pad_ratio)
        self.ratio = 0 if self.is_grid else int(param.sampling_ratio)
        if min(self.pooled) < 1:
            self.fail(f"{name}.pooled_h and pooled_w are {self.pooled}; expected at least 1 each")

    def infer_shapes(self, features: Shape, rois: Shape) -> list[Shape]:
        check_rois(self, features, rois)
        extra = int(self.is_grid)
        return [(rois[0], features[1], self.pooled[0] + extra, self.pooled[1] + extra)]

    def forward(self, features: Tensor, rois: Tensor) -> Tensor:
        rois = rois.detach().reshape(-1, 5)
        images = images_of(self, rois, features.shape[0])
        weigh = self._grid_weights if self.is_grid else self._bin_weights
        rows, columns = (
            weigh(rois[:, first], rois[:, last], features.shape[axis], self.pooled[axis - 2])
            for axis, first, last in ((2, 2, 4), (3, 1, 3))
        )
        if self.is_grid:  # A region turned inside out along one axis is 0 altogether.
            there = ((rows != 0).flatten(1).any(1) & (columns != 0).flatten(1).any(1)).view(-1, 1, 1)
            rows = rows * there
        top = features.new_zeros(self.infer_shapes(tuple(features.shape), tuple(rois.shape))[0])
        for image in images.unique().tolist():
            for chosen in (images == image).nonzero().squeeze(1).split(CHUNK):
                top = top.index_copy(0, chosen, _interpolate(features[image], rows[chosen], columns[chosen]))
        return top

    def _bin_weights(self, first: Tensor, last: Tensor, size: int, bins: int) -> Tensor:
        """What each of ``size`` pixels along an axis adds to each bin of each region, (R, bins, size)."""
        start = first * self.spatial_scale
        part = (last * self.spatial_scale - start).clamp(min=1) / bins
        points = part.ceil().long() if self.ratio <= 0 else torch.full_like(part, self.ratio, dtype=torch.long)
        most = int(points.max()) if len(points) else 1
        number = torch.arange(most, dtype=part.dtype, device=first.device)
        step = (number + 0.5) / points.unsqueeze(1) * part.unsqueeze(1)  # (R, points)
        place = (start + torch.arange(bins, device=first.device).unsqueeze(1) * part).T.unsqueeze(2) + step.unsqueeze(1)
        counted = (place >= -1) & (place <= size) & (number < points.unsqueeze(1)).unsqueeze(1)
        weights = _linear_weights(place.clamp(0, size - 1), size) * counted.unsqueeze(3)
        return weights.sum(2) / points.view(-1, 1, 1)

    def _grid_weights(self, first: Tensor, last: Tensor, size: int, bins: int) -> Tensor:
        """The same for the bins' corners, (R, bins + 1, size)."""
        pad = (last - first + 1) * self.pad_ratio
        start = (first - pad) * self.spatial_scale - 0.5
        length = (last + pad) * self.spatial_scale - 0.5 - start
        place = (start + torch.arange(bins + 1, device=first.device).unsqueeze(1) * (length / bins)).T
        counted = (place >= -0.5) & (place <= size - 0.5) & (length > 0).unsqueeze(1)
        return _linear_weights(place.clamp(0, size - 1), size) * counted.unsqueeze(2)

    def to_onnx(self, graph: "OnnxGraph", step: "OnnxStep") -> list[str]:
        if self.is_grid:
            self.fail("Cascade R-CNN's form (roi_pooling_param) has no ONNX form")
        image, corners = graph.add_many(
            "Split", [graph.reshape(step.bottoms[1], [-1, 5]), graph.sizes([1, 4])], 2, axis=1
        )
        image = graph.to_index(graph.add("Squeeze", image, graph.sizes([1])))
        attributes = {
            "output_height": self.pooled[0],
            "output_width": self.pooled[1],
            "sampling_ratio": max(self.ratio, 0),
            "spatial_scale": self.spatial_scale,
            "coordinate_transformation_mode": "output_half_pixel",
        }
        return [graph.add("RoiAlign", step.bottoms[0], corners, image, **attributes)]

    @classmethod
    def example(cls, dice: Dice) -> Example:
        shape = dice.image()
        fields = f"pooled_h: {dice.integer(1, 4)} pooled_w: {dice.integer(1, 4)} spatial_scale: 0.5"
        rois = random_rois(dice, shape)
        if dice.integer(0, 1):
            return Example(f"roi_pooling_param {{ {fields} pad_ratio: 0.25 }}", [dice.normal(*shape), rois])
        return Example(
            f"roi_align_param {{ {fields} sampling_ratio: {dice.pick(-1, 2)} }}", [dice.normal(*shape), rois]
        )


def _linear_weights(place: Tensor, size: int) -> Tensor:
    """The two neighbours' weights at places (...) from 0 to size - 1, (..., size)."""
    pixels = torch.arange(size, dtype=place.dtype, device=place.device)
    return (1 - (place.unsqueeze(-1) - pixels).abs()).clamp(min=0)


def _interpolate(features: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """(C, H, W), (R, h, H) and (R, w, W) -> (R, C, h, w): the sums over pixels, by row and by column."""
    channels, height, width = features.shape
    regions, w = columns.shape[:2]
    across = features.reshape(channels * height, width) @ columns.permute(2, 0, 1).reshape(width, regions * w)
    across = across.view(channels, height, regions, w).permute(2, 1, 0, 3).reshape(regions, height, channels * w)
    return (rows @ across).view(regions, -1, channels, w).transpose(1, 2)
