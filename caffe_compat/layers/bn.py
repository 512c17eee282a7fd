"""BN: three layers of three forks under one name, told apart by their fields.

SegNet                      2 blobs: scale, shift; statistics of the batch also in TEST, or none at all
PSPNet, yjxiong             4 blobs: slope, bias, mean, variance; running averages in TEST
CTPN                        4 blobs: scale, shift, mean, variance; running averages in TEST if asked for
"""

from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from caffe_compat.layers.base import Layer, Shape
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example
from caffe_compat.layers.shared.fillers import fill

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph, OnnxStep

SEGNET, PSPNET, CTPN = "SegNet", "PSPNet", "CTPN"
#: the fields of bn_param that one fork alone has; scale_filler and shift_filler are SegNet's and CTPN's
OWN_FIELDS = {
    SEGNET: {"bn_mode"},
    PSPNET: {"slope_filler", "bias_filler", "momentum", "eps", "frozen"},
    CTPN: {"var_eps", "moving_average", "decay", "axis"},
}
SEGNET_EPS = 1e-9


@register("BN")
class BN(Layer):
    """Bottom (N, C, ...) -> top (x - mean) / sqrt(variance + eps) * scale + shift; all blobs (1, C, 1, 1).

    The variance is the biased one.  In training running averages become m * average + (1 - m) * batch, with m
    ``momentum`` (PSPNet) or 1 - ``decay`` (CTPN).  ``bn_mode: INFERENCE`` (SegNet) is x * scale + shift, tops 1 and 2
    in its other mode are the batch's mean and variance, (1, C, 1, 1).  ``frozen`` (PSPNet): averages also in training,
    and nothing is learned.  CTPN's ``axis`` may be 2: blobs are (1, 1, C, 1).
    """

    param_fields = ("bn_param",)
    top_count = (1, 3)
    keeps_forward = True
    graph_safe = True

    def setup(self, bottom: Shape) -> None:
        param = self.param.bn_param
        self.fork = self._which_fork()
        self.axis = int(param.axis) if self.fork == CTPN else 1
        if self.axis not in (1, 2) or len(bottom) <= self.axis:
            self.fail(f"bn_param.axis is {self.axis} and bottom {bottom}; expected axis 1 or 2 of the bottom")
        self.inference = self.fork == SEGNET and param.bn_mode == param.INFERENCE
        self.frozen = self.fork == PSPNET and bool(param.frozen)
        self.averages_in_test = self.fork == PSPNET or (self.fork == CTPN and bool(param.moving_average))
        self.eps = {SEGNET: SEGNET_EPS, PSPNET: float(param.eps), CTPN: float(param.var_eps)}[self.fork]
        self.momentum = float(param.momentum) if self.fork == PSPNET else 1 - float(param.decay)
        if self.num_tops > 1 and (self.fork != SEGNET or self.inference):
            self.fail(f"has {self.num_tops} tops; the batch's mean and variance are tops of SegNet's BN in mode LEARN")
        self._add_blobs(bottom[self.axis])

    def _which_fork(self) -> str:
        given = {field.name for field, _ in self.param.bn_param.ListFields()}
        forks = [fork for fork, fields in OWN_FIELDS.items() if fields & given]
        if {"scale_filler", "shift_filler"} & given and CTPN not in forks:
            forks = sorted({*forks, SEGNET})
        if len(forks) > 1:
            self.fail(f"bn_param has fields of {' and of '.join(forks)}: {', '.join(sorted(given))}; keep one fork's")
        if forks:
            return forks[0]
        if len(self.param.blobs) == 2:
            return SEGNET
        if len(self.param.blobs) == 4 or len(self.param.param) > 2:
            return PSPNET
        self.fail(
            "does not say which fork's BN it is; set bn_param { bn_mode: LEARN } or INFERENCE for SegNet's (2 blobs), "
            "frozen or momentum for PSPNet's (4 blobs)"
        )

    def _add_blobs(self, channels: int) -> None:
        param = self.param.bn_param
        shape = (1, channels, 1, 1) if self.axis == 1 else (1, 1, channels, 1)
        names = ("slope", "bias") if self.fork == PSPNET else ("scale", "shift")
        for name in names:
            filler = getattr(param, f"{name}_filler")
            self.add_blob(name, shape, partial(fill, filler=filler), trainable=not self.frozen)
        if self.fork == SEGNET:
            return
        self.add_blob("mean", shape, trainable=False)
        self.add_blob("variance", shape, lambda t: t.fill_(1 if self.frozen else 0), trainable=False)
        # As in the forks, whatever the file says.
        for i in range(4):
            if i == len(self.param.param):
                self.param.param.add()
            if i > 1 or self.frozen:
                self.param.param[i].lr_mult = self.param.param[i].decay_mult = 0

    @property
    def uses_averages(self) -> bool:
        """Whether the running averages are used and left as they are."""
        return self.frozen or (self.averages_in_test and not self.training)

    def infer_shapes(self, bottom: Shape) -> list[Shape]:
        channels = self.blob_shapes[0][self.axis]
        if len(bottom) <= self.axis or bottom[self.axis] != channels:
            self.fail(f"bottom has shape {bottom}; expected {channels} channels on axis {self.axis}")
        return [bottom, *[self.blob_shapes[0]] * (self.num_tops - 1)]

    def _aligned(self, blob: Tensor, axes: int) -> Tensor:
        """(C,) on the layer's axis of ``axes``, to broadcast over the bottom."""
        return blob.reshape(*[1] * self.axis, -1, *[1] * (axes - self.axis - 1))

    def forward(self, bottom: Tensor) -> Tensor | tuple[Tensor, ...]:
        axes = bottom.dim()
        scale, shift = (self._aligned(self.blob(i), axes) for i in (0, 1))
        if self.inference:
            return bottom * scale + shift
        if self.uses_averages:
            mean, variance = (self._aligned(self.blob(i), axes) for i in (2, 3))
        else:
            others = [axis for axis in range(axes) if axis != self.axis]
            variance, mean = torch.var_mean(bottom, others, correction=0, keepdim=True)
            if self.fork != SEGNET and self.training:
                self._update(mean, variance)
        top = (bottom - mean) * (torch.rsqrt(variance + self.eps) * scale) + shift
        if self.num_tops == 1:
            return top
        statistics = [value.detach().reshape(self.blob_shapes[0]) for value in (mean, variance)]
        return (top, *statistics[: self.num_tops - 1])

    @torch.no_grad()
    def _update(self, *statistics: Tensor) -> None:
        for i, value in enumerate(statistics, 2):
            self.blob(i).lerp_(value.reshape(self.blob_shapes[i]), 1 - self.momentum)

    def to_onnx(self, graph: "OnnxGraph", step: "OnnxStep") -> list[str]:
        if self.num_tops > 1:
            self.fail("the batch's mean and variance as tops have no ONNX form; remove them")
        x, axes = step.bottoms[0], len(step.bottom_shapes[0])
        blobs = [blob.detach().double() for blob in self.blobs]
        if not self.inference and not self.uses_averages:
            others = graph.sizes([axis for axis in range(axes) if axis != self.axis])
            x = graph.add("Sub", x, graph.add("ReduceMean", x, others))
            variance = graph.add("ReduceMean", graph.add("Mul", x, x), others)
            x = graph.add("Div", x, graph.add("Sqrt", graph.shift(variance, self.eps)))
        elif self.uses_averages:
            blobs[0] = blobs[0] * torch.rsqrt(blobs[3] + self.eps)
            blobs[1] = blobs[1] - blobs[2] * blobs[0]
        scale, shift = (graph.constant(self._aligned(blob, axes)) for blob in blobs[:2])
        return [graph.add("Add", graph.add("Mul", x, scale), shift)]

    @classmethod
    def example(cls, dice: Dice) -> Example:
        fields, phase = dice.pick(
            ("bn_mode: LEARN", "TEST"),
            ("bn_mode: INFERENCE", "TEST"),
            ("momentum: 0.8 eps: 0.01", "TEST"),
            ("momentum: 0.8 eps: 0.01", "TRAIN"),
            ("frozen: true", "TRAIN"),
            (f"var_eps: 0.01 moving_average: {dice.switch()} axis: {dice.integer(1, 2)}", "TEST"),
        )
        shape = (dice.integer(3, 5), dice.integer(2, 3), dice.integer(2, 3), dice.integer(3, 5))
        return Example(f"phase: {phase} bn_param {{ {fields} }}", [dice.normal(*shape)], positive_blobs=True)
