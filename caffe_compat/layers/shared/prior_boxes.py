"""Prior boxes: the same boxes around the centre of each cell of a feature map, as parts of the image.

H W: cells of the feature map; P: boxes around a centre; K: centres per cell, all but the first below it.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from caffe_compat.layers.base import Layer, LayerContext, Shape
from caffe_compat.layers.shared import onnx_boxes
from caffe_compat.proto import caffe_pb2

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph, OnnxStep

#: width and height of a box, in pixels of the image
Size = tuple[float, float]


class PriorBoxLayer(Layer):
    """Bottoms feature map (N, C, H, W) and image (N, C', H', W'), only for their sizes -> top (1, 2, H W P K 4).

    Row 0 has xmin, ymin, xmax, ymax of each box over the image's width and height (``img_w``, ``img_h`` or
    ``img_size`` instead of the bottom's), row 1 what their offsets are multiplied by (``variance``, once or for each
    edge; 0.1).  Cells are ``step_w`` and ``step_h`` pixels wide and high, by default the image's size over the map's;
    a box's centre is ``offset`` of a cell from the cell's start.  ``clip``: edges are moved into the image.

    ``additional_y_offset`` (TextBoxes): behind each box comes the same box half a cell lower.  ``denser_prior_boxes``
    (TextBoxes++): behind each box comes the same box around the middle of the cell's lower edge.

    Numbers are rounded where SSD's prior_box_layer.cpp rounds: centres and sizes to float32, edges once at the end.
    A subclass gives the boxes' sizes.
    """

    param_fields = ("prior_box_param",)
    bottom_count = (2, 2)
    onnx_float32 = True
    graph_obstacle = "keeps its boxes from pass to pass while the sizes are the same"

    def __init__(self, param: caffe_pb2.LayerParameter, context: LayerContext | None = None) -> None:
        super().__init__(param, context)
        self._made_for: tuple[object, ...] = ()
        self._made = torch.empty(0)

    def box_sizes(self) -> list[Size]:
        """Subclasses: the sizes of a cell's boxes, in their order."""
        raise TypeError(f"{type(self).__name__} lacks box_sizes")

    def box_shifts(self) -> list[Size]:
        """Subclasses: how many pixels to the right and down each box's centre lies from the cell's."""
        return [(0.0, 0.0)] * len(self.sizes)

    def setup(self, feature_map: Shape, image: Shape) -> None:
        param = self.param.prior_box_param
        self.sizes = self.box_sizes()
        self.shifts = self.box_shifts()
        self.clip, self.offset = bool(param.clip), float(param.offset)
        if param.additional_y_offset and param.denser_prior_boxes:
            self.fail("prior_box_param has additional_y_offset, of TextBoxes, and denser_prior_boxes, of TextBoxes++")
        self.y_offsets = [self.offset]
        if param.additional_y_offset:
            self.y_offsets.append(self.offset + 0.5)
        if param.denser_prior_boxes:
            self.y_offsets.append(1.0)
        self.variance = [float(value) for value in param.variance] or [0.1]
        if len(self.variance) not in (1, 4) or min(self.variance) <= 0:
            self.fail(f"prior_box_param.variance is {self.variance}; expected 1 or 4 numbers above 0")
        self.image = self._pair("img_size", "img_h", "img_w")
        self.step = self._pair("step", "step_h", "step_w")

    def differs_from_opencv(self) -> str:
        param = self.param.prior_box_param
        said = []
        if any(size != int(size) for size in (*param.min_size, *param.max_size)):
            said.append("min_size and max_size are cut to whole pixels")
        if not param.HasField("clip"):
            said.append("edges outside the image stay, as clip is not given")
        if self.image:
            said.append("the image's size is that of the fields, not the bottom's")
        return f"{' and '.join(said)}, unlike in OpenCV 4" if said else ""

    def _pair(self, both: str, height: str, width: str) -> tuple[float, float] | None:
        """A (height, width) of ``prior_box_param``: one field for both or one each; None where neither is given."""
        param = self.param.prior_box_param
        if param.HasField(height) or param.HasField(width):
            if param.HasField(both):
                self.fail(f"prior_box_param has {both} and also {height} or {width}; remove one of them")
            pair = float(getattr(param, height)), float(getattr(param, width))
        elif param.HasField(both):
            pair = float(getattr(param, both)), float(getattr(param, both))
        else:
            return None
        if min(pair) <= 0:
            self.fail(f"prior_box_param.{both} is {pair} as height and width; expected numbers above 0")
        return pair

    def infer_shapes(self, feature_map: Shape, image: Shape) -> list[Shape]:
        for shape in (feature_map, image):
            if len(shape) != 4:
                self.fail(f"a bottom has shape {shape}; expected (N, C, H, W)")
        return [(1, 2, feature_map[2] * feature_map[3] * len(self.sizes) * len(self.y_offsets) * 4)]

    def forward(self, feature_map: Tensor, image: Tensor) -> Tensor:
        cells, dtype, device = tuple(feature_map.shape[2:]), feature_map.dtype, feature_map.device
        pixels = self.image or (float(image.shape[2]), float(image.shape[3]))
        sizes = (cells, pixels, dtype, device)
        if sizes != self._made_for:
            self._made_for, self._made = sizes, self._make(cells, pixels, device).to(dtype)
        # Whoever runs the net on blobs may write into a top.
        return self._made.clone()

    def to_onnx(self, graph: "OnnxGraph", step: "OnnxStep") -> list[str]:
        feature_map, image = step.bottom_shapes
        if not step.varies(0, (2, 3)) and (self.image or not step.varies(1, (2, 3))):
            pixels = self.image or (float(image[2]), float(image[3]))
            return [graph.constant(self._make(feature_map[2:], pixels, torch.device("cpu")))]
        cells = [step.size_of(0, axis) for axis in (2, 3)]
        if self.image:
            limits = [graph.constant([size]) for size in self.image]
        else:
            limits = [graph.to_float(graph.size(step.size_of(1, axis))) for axis in (2, 3)]
        across = [self.offset] * len(self.y_offsets)
        centers = []
        for i, place in enumerate(onnx_boxes.places(graph, cells)):
            number = graph.to_float(graph.size(cells[i]))
            width = graph.constant([self.step[i]]) if self.step else graph.add("Div", limits[i], number)
            offsets = np.tile(self.y_offsets if i == 0 else across, len(self.sizes))[None, None, :, None]
            center = graph.add("Mul", graph.add("Add", place, graph.constant(offsets)), width)
            moves = np.repeat([shift[1 - i] for shift in self.shifts], len(self.y_offsets))[None, None, :, None]
            centers.append(graph.add("Add", center, graph.constant(moves)) if moves.any() else center)
        # (H, W, P K, 1): centres and edges
        halves = [
            graph.constant(np.repeat(sides, len(self.y_offsets))[None, None, :, None] / 2)
            for sides in zip(*self.sizes, strict=True)
        ]
        edges = [
            graph.add("Div", graph.add(operator, center, half), limit)
            for operator in ("Sub", "Add")
            for center, half, limit in zip(centers[::-1], halves, limits[::-1], strict=True)
        ]
        boxes = graph.add("Concat", *edges, axis=3)
        if self.clip:
            boxes = graph.add("Clip", boxes, graph.constant(0.0), graph.constant(1.0))
        variance = graph.add("Expand", graph.constant(self.variance), graph.add("Shape", boxes))
        return [graph.add("Concat", *(graph.reshape(value, [1, 1, -1]) for value in (boxes, variance)), axis=1)]

    def _make(self, cells: Sequence[int], pixels: Sequence[float], device: torch.device) -> Tensor:
        """The top, in float64."""
        steps = self.step or [image / number for image, number in zip(pixels, cells, strict=True)]
        down, across = (torch.tensor(offsets, dtype=torch.float32) for offsets in (self.y_offsets, [self.offset]))
        # y (H, K) and x (W, 1)
        centers = [
            (torch.arange(number, dtype=torch.float32, device=device)[:, None] + offsets.to(device)) * step
            for number, offsets, step in zip(cells, (down, across), steps, strict=True)
        ]
        y, x = torch.broadcast_tensors(centers[0][:, None], centers[1][None])
        # (H, W, 1, K, 2) and (P, 1, 2): x, y
        center = torch.stack((x, y), -1).double().unsqueeze(2)
        center = center + torch.tensor(self.shifts, dtype=torch.float64, device=device).unsqueeze(1)
        half = torch.tensor(self.sizes, dtype=torch.float32, device=device).double().unsqueeze(1) / 2
        image = torch.tensor([pixels[1], pixels[0]], dtype=torch.float64, device=device)
        boxes = torch.cat(((center - half) / image, (center + half) / image), -1)
        if self.clip:
            boxes = boxes.clamp(0, 1)
        variance = torch.tensor(self.variance, dtype=torch.float32, device=device).double().expand(boxes.shape)
        return torch.stack((boxes.flatten(), variance.flatten())).unsqueeze(0)
