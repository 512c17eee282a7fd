"""Nms: peaks of heat maps (OpenPose's caffe_rtpose)."""

import torch
from torch import Tensor

from caffe_compat.layers.base import Layer, Shape
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example
from caffe_compat.layers.shared.fields import refuse_fields

# A peak's place is the centre of mass of the values around it, so far in each direction.
REACH = 3


@register("Nms")
class Nms(Layer):
    """Bottom (N, C, H, W), of which the first ``num_parts`` channels count -> top (N, num_parts, max_peaks + 1, 3): the
    number of peaks and two zeros, then x, y, value of each of the first ``max_peaks``, row by row; zeros after them.

    A peak is above ``threshold`` and above its eight neighbours, and not on the border.  Its x and y are the average,
    weighted by the positive values of the 7 by 7 around it, first row and column of the map left out, as in the fork's
    CUDA code.  (That compares rows with the map's width; here rows end at its height.)  The number counts all peaks,
    those after ``max_peaks`` too.
    """

    param_fields = ("nms_param",)
    onnx_obstacle = "ONNX has no operator for the centres of peaks"
    has_backward = False
    graph_obstacle = "looks for peaks, whose number depends on the data"

    def setup(self, bottom: Shape) -> None:
        refuse_fields(self, *self.param_fields, "num_peak", because="it is of an older form; use max_peaks")
        param = self.param.nms_param
        self.threshold, self.most, self.parts = float(param.threshold), int(param.max_peaks), int(param.num_parts)

    def infer_shapes(self, bottom: Shape) -> list[Shape]:
        if len(bottom) != 4 or bottom[1] < self.parts:
            self.fail(
                f"bottom has shape {bottom}; expected (N, C, H, W) with at least num_parts, {self.parts}, channels "
                "(where the fork reads past the end); for one map write nms_param { num_parts: 1 }"
            )
        return [(bottom[0], self.parts, self.most + 1, 3)]

    def forward(self, bottom: Tensor) -> Tensor:
        maps = bottom.detach()[:, : self.parts].reshape(-1, *bottom.shape[2:])
        channel, y, x = self._peaks(maps)
        first = torch.searchsorted(channel, torch.arange(len(maps) + 1, device=maps.device))
        rank = torch.arange(len(channel), device=maps.device) - first[channel]
        values = torch.stack((*self._centers(maps, channel, y, x), maps[channel, y, x]), 1)
        top = maps.new_zeros(len(maps), self.most + 1, 3)
        top[:, 0, 0] = (first[1:] - first[:-1]).to(top.dtype)
        kept = rank < self.most
        top[channel[kept], rank[kept] + 1] = values[kept]
        return top.view(bottom.shape[0], self.parts, self.most + 1, 3)

    def _peaks(self, maps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Channel, y and x of all peaks, in memory's order."""
        channel, y, x = (maps[:, 1:-1, 1:-1] > self.threshold).nonzero(as_tuple=True)
        y, x = y + 1, x + 1
        step = torch.tensor([-1, 0, 1], device=maps.device)
        around = maps[channel[:, None, None], y[:, None, None] + step[:, None], x[:, None, None] + step].flatten(1)
        lower = (around < around[:, 4:5]).sum(1) == 8
        return channel[lower], y[lower], x[lower]

    @staticmethod
    def _centers(maps: Tensor, channel: Tensor, y: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """x and y of the centres of mass."""
        step = torch.arange(-REACH, REACH + 1, device=maps.device)
        rows, columns = y[:, None, None] + step[:, None], x[:, None, None] + step
        inside = (rows > 0) & (rows < maps.shape[1]) & (columns > 0) & (columns < maps.shape[2])
        places = rows.clamp(0, maps.shape[1] - 1), columns.clamp(0, maps.shape[2] - 1)
        mass = torch.where(inside, maps[channel[:, None, None], *places].clamp(min=0), 0)
        total = mass.sum((1, 2))
        return (mass * columns).sum((1, 2)) / total, (mass * rows).sum((1, 2)) / total

    @classmethod
    def example(cls, dice: Dice) -> Example:
        parts = dice.integer(1, 3)
        fields = f"threshold: 0.1 max_peaks: {dice.integer(1, 5)} num_parts: {parts}"
        return Example(f"nms_param {{ {fields} }}", [dice.normal(*dice.image(parts + dice.integer(0, 2)))])
