"""Upsample: undo a pooling.  SegNet's (two bottoms) by the mask of MAX pooling, YOLO's (one bottom) by repetition."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from caffe_compat.layers.base import Layer, Shape, count
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example
from caffe_compat.layers.shared.indices import to_indices

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph, OnnxStep


@register("Upsample")
class Upsample(Layer):
    """Bottoms x (N, C, H, W) and a mask of the same shape -> top (N, C, H', W'), zero but for top[mask] = x: each mask
    value is a place in its H' x W' plane.  Sizes: ``upsample_h`` and ``upsample_w``, or ``scale`` (2), or ``scale_h``
    and ``scale_w`` times the bottom's, less one with ``pad_out_h`` and ``pad_out_w``.

    Bottom x (..., H, W) alone -> top (..., H scale, W scale), each value ``scale`` x ``scale`` times (1 if not given).
    """

    param_fields = ("upsample_param",)
    bottom_count = (1, 2)
    reads_again = (1,)
    graph_safe = True
    drawing_kind = "shape"

    def setup(self, bottom: Shape, mask: Shape | None = None) -> None:
        self.has_mask = mask is not None
        self.sizes: Shape | None = None
        self.pad_out = (0, 0)
        if self.has_mask:
            self._read_segnet()
        else:
            self._read_yolo()

    def _read_yolo(self) -> None:
        param = self.param.upsample_param
        others = [field.name for field, _ in param.ListFields() if field.name != "scale"]
        if others:
            self.fail(
                f"upsample_param.{others[0]} is for the form with a mask, the second bottom; add it, or set scale"
            )
        scale = int(param.scale) if param.HasField("scale") else 1
        self.scale = (scale, scale)
        if scale < 1:
            self.fail(f"upsample_param.scale is {scale}; expected at least 1")

    def _read_segnet(self) -> None:
        param = self.param.upsample_param
        has = {name: param.HasField(name) for name in ("upsample_h", "upsample_w", "scale", "scale_h", "scale_w")}
        if has["upsample_h"] and has["upsample_w"]:
            self.sizes = (int(param.upsample_h), int(param.upsample_w))
            if min(self.sizes) < 2:
                self.fail(f"upsample_param has upsample_h and upsample_w {self.sizes}; expected at least 2")
            return
        if has["scale_h"] != has["scale_w"] or (has["scale"] and has["scale_h"]):
            self.fail("upsample_param needs upsample_h and upsample_w, or scale, or scale_h and scale_w")
        scale = int(param.scale) if has["scale"] else 2
        self.scale = (int(param.scale_h), int(param.scale_w)) if has["scale_h"] else (scale, scale)
        self.pad_out = (int(param.pad_out_h), int(param.pad_out_w))
        if min(self.scale) < 2:
            self.fail(f"upsample_param has scale {self.scale}; expected at least 2")
        if any(pad and scale != 2 for pad, scale in zip(self.pad_out, self.scale, strict=True)):
            self.fail(f"upsample_param.pad_out_h and pad_out_w are for scale 2; it is {self.scale}")

    def infer_shapes(self, bottom: Shape, mask: Shape | None = None) -> list[Shape]:
        if mask is not None and (len(bottom) != 4 or mask != bottom):
            self.fail(f"bottoms have shapes {bottom} and {mask}; expected (N, C, H, W) and a mask of the same shape")
        if len(bottom) < 2:
            self.fail(f"bottom has shape {bottom}; expected at least 2 axes")
        return [(*bottom[:-2], *self._output_sizes(*bottom[-2:]))]

    def _output_sizes(self, height: int, width: int) -> Shape:
        return self.sizes or (height * self.scale[0] - self.pad_out[0], width * self.scale[1] - self.pad_out[1])

    def forward(self, bottom: Tensor, mask: Tensor | None = None) -> Tensor:
        if mask is None:
            return bottom.repeat_interleave(self.scale[0], -2).repeat_interleave(self.scale[1], -1)
        sizes = self._output_sizes(bottom.shape[2], bottom.shape[3])
        places = to_indices(self, mask, count(sizes), "place in the mask").flatten(2)
        top = bottom.new_zeros(*bottom.shape[:2], count(sizes)).scatter(2, places, bottom.flatten(2))
        return top.reshape(*top.shape[:2], *sizes)

    def index_limits(self, bottom: Shape, mask: Shape | None = None) -> dict[int, int]:
        return {} if mask is None else {1: count(self._output_sizes(bottom[2], bottom[3]))}

    def to_onnx(self, graph: "OnnxGraph", step: "OnnxStep") -> list[str]:
        *before, height, width = step.dims()
        height, width = self.sizes or (
            graph.work_out(size, ("Mul", scale), ("Add", -pad))
            for size, scale, pad in zip((height, width), self.scale, self.pad_out, strict=True)
        )
        if not self.has_mask:
            attributes = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
            return [graph.resize(step.bottoms[0], [*before, height, width], **attributes)]
        values = graph.reshape(step.bottoms[0], [*before, -1])
        places = graph.to_index(graph.reshape(step.bottoms[1], [*before, -1]))
        if step.varies(0):
            places_there = graph.add("Mul", graph.size(height), graph.size(width))
            zeros = graph.add("Expand", graph.constant(0.0), graph.shape([*before, places_there]))
        else:
            zeros = graph.constant(torch.zeros(*step.top_shapes[0][:2], count(step.top_shapes[0], 2)))
        top = graph.add("ScatterElements", zeros, places, values, axis=2)
        return [graph.reshape(top, [*before, height, width])]

    @classmethod
    def example(cls, dice: Dice) -> Example:
        if dice.integer(0, 1):
            return Example(f"upsample_param {{ scale: {dice.integer(1, 3)} }}", [dice.normal(*dice.shape(2, 4))])
        n, c, h, w = dice.integer(1, 2), dice.integer(1, 3), dice.integer(1, 3), dice.integer(1, 3)
        # A place at most once: what a later value would overwrite is not fixed on CUDA.
        places = dice.rng.permuted([range(4 * h * w)] * (n * c), axis=1)
        mask = places[:, : h * w].reshape(n, c, h, w).astype("float32")
        sizes = dice.pick("", f"upsample_h: {2 * h} upsample_w: {2 * w}", "scale_h: 2 scale_w: 2")
        return Example(f"upsample_param {{ {sizes} }}", [dice.normal(n, c, h, w), mask])
