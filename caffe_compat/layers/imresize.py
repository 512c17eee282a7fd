"""ImResize: enlarge maps by cubic interpolation and average those of several scales (OpenPose's caffe_rtpose)."""

import math

import torch
from torch import Tensor

from caffe_compat.layers.base import Layer, Shape
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example


@register("ImResize")
class ImResize(Layer):
    """Bottom (N, C, H, W) -> top (1, C, ``factor`` H, ``factor`` W), or (1, C, ``target_spatial_height``,
    ``target_spatial_width``) without ``factor``.

    The N maps are of one image at N scales: map n without a border, of 1 - ``start_scale`` + n ``scale_gap`` of its
    width and height, is enlarged, and the top is the average.  Values come from Catmull-Rom splines, those of the
    fork's CUDA code; its CPU code interpolates with OpenCV instead.  At the edges the outermost values are repeated.
    """

    param_fields = ("imresize_param",)
    onnx_obstacle = "no mode of Resize interpolates by its cubes"

    graph_safe = True

    def setup(self, bottom: Shape) -> None:
        param = self.param.imresize_param
        self.factor = float(param.factor)
        self.target = int(param.target_spatial_height), int(param.target_spatial_width)
        self.start_scale, self.scale_gap = float(param.start_scale), float(param.scale_gap)

    def infer_shapes(self, bottom: Shape) -> list[Shape]:
        if len(bottom) != 4:
            self.fail(f"bottom has shape {bottom}; expected (N, C, H, W)")
        sizes = self._sizes(bottom)
        if min(sizes) < 1 or any(size <= 2 * pad for n in range(bottom[0]) for size, pad in self._borders(bottom, n)):
            self.fail(f"bottom has shape {bottom}; nothing is left of it after imresize_param's factor and scales")
        return [(1, bottom[1], *sizes)]

    def _sizes(self, bottom: Shape) -> tuple[int, int]:
        return (int(bottom[2] * self.factor), int(bottom[3] * self.factor)) if self.factor else self.target

    def _borders(self, bottom: Shape, n: int) -> list[tuple[int, int]]:
        """Height and width, each with the border of map n that does not count."""
        part = 1 - self.start_scale + n * self.scale_gap
        return [(size, math.floor(size // 2 * part)) for size in bottom[2:]]

    def forward(self, bottom: Tensor) -> Tensor:
        shape = tuple(bottom.shape)
        total = bottom.new_zeros(1)
        for n in range(shape[0]):
            rows, columns = (
                self._weights(bottom, size, pad, target)
                for (size, pad), target in zip(self._borders(shape, n), self._sizes(shape), strict=True)
            )
            total = total + rows @ bottom[n : n + 1] @ columns.T
        return total / shape[0]

    @staticmethod
    def _weights(like: Tensor, size: int, pad: int, target: int) -> Tensor:
        """What each of ``size`` values adds to each of ``target`` interpolated ones, (target, size)."""
        inner = size - 2 * pad
        place = torch.arange(target, dtype=torch.float64, device=like.device)
        place = (place - (target / inner / 2 - 0.5)) * (inner / target)
        second = (place + 1e-5).trunc().clamp(min=0)
        t = (place - second).unsqueeze(1)
        taps = second.unsqueeze(1) + torch.arange(-1, 3, device=like.device)
        weights = torch.cat(
            (
                ((-0.5 * t + 1) * t - 0.5) * t,
                (1.5 * t - 2.5) * t * t + 1,
                ((-1.5 * t + 2) * t + 0.5) * t,
                (0.5 * t - 0.5) * t * t,
            ),
            1,
        )
        table = torch.zeros(target, size, dtype=torch.float64, device=like.device)
        table.scatter_add_(1, taps.clamp(0, inner - 1).long() + pad, weights)
        return table.to(like.dtype)

    @classmethod
    def example(cls, dice: Dice) -> Example:
        size = dice.pick(f"factor: {dice.pick(2, 1.5, 8)}", "target_spatial_width: 9 target_spatial_height: 13")
        return Example(f"imresize_param {{ {size} scale_gap: 0.3 }}", [dice.normal(*dice.image())])
