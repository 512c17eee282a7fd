"""BatchNorm: normalise each channel by the batch's mean and variance, or by running averages."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from caffe_compat.layers.base import Layer, Shape, count
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.channel_form import ChannelForm
from caffe_compat.layers.shared.example import Dice, Example

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph, OnnxStep

SMALLEST_EPS = torch.finfo(torch.float32).tiny


@register("BatchNorm")
class BatchNorm(Layer):
    """Bottom (N, C, ...) -> top (x - mean) / sqrt(variance + eps).

    Blobs mean (C,), variance (C,) and factor (1,) are decaying *sums* of the batches' means, unbiased
    variances and 1, so the running averages are mean / factor and variance / factor.  They are
    updated in training and used after ``.eval()`` and in TEST nets, unless ``use_global_stats`` says otherwise; never
    learned.
    """

    param_fields = ("batch_norm_param",)
    graph_safe = True
    keeps_forward = True

    def setup(self, bottom: Shape) -> None:
        param = self.param.batch_norm_param
        # PyTorch refuses an eps of 0 in training.
        self.fraction, self.eps = float(param.moving_average_fraction), max(float(param.eps), SMALLEST_EPS)
        self._fixed = bool(param.use_global_stats) if param.HasField("use_global_stats") else None
        if len(bottom) < 2:
            self.fail(f"bottom has shape {bottom}; expected at least 2 axes (N, C)")
        for name, size in (("mean", bottom[1]), ("variance", bottom[1]), ("factor", 1)):
            self.add_blob(name, (size,), trainable=False)
        for i in range(3):
            if i == len(self.param.param):
                self.param.param.add(lr_mult=0)
            elif self.param.param[i].lr_mult != 0:
                self.fail(
                    f"param {i} has lr_mult {self.param.param[i].lr_mult}; statistics are not learned, set it to 0"
                )

    @property
    def use_global_stats(self) -> bool:
        """Whether the running averages are used and left as they are: the field, else the mode."""
        return not self.training if self._fixed is None else self._fixed

    def infer_shapes(self, bottom: Shape) -> list[Shape]:
        if len(bottom) < 2 or bottom[1] != self.blob_shapes[0][0]:
            self.fail(f"bottom has shape {bottom}; expected {self.blob_shapes[0][0]} channels on axis 1")
        return [bottom]

    def running_statistics(self) -> tuple[Tensor, Tensor]:
        """The running averages of mean and variance (C,), which PyTorch's layer calls running_mean and running_var."""
        mean, variance, factor = (self.blob(i) for i in range(3))
        scale = torch.where(factor == 0, torch.zeros_like(factor), 1 / factor)
        return mean * scale, variance * scale

    def forward(self, bottom: Tensor) -> Tensor:
        if self.use_global_stats:
            return functional.batch_norm(bottom, *self.running_statistics(), eps=self.eps)
        if count(bottom.shape) == bottom.shape[1]:
            # One value per channel, which PyTorch refuses.
            self._update(bottom.detach().flatten(), torch.zeros_like(self.blob(1)))
            return bottom - bottom
        # With momentum 1 PyTorch writes the batch's mean and unbiased variance, as they are.
        mean, variance = torch.zeros_like(self.blob(0)), torch.zeros_like(self.blob(1))
        top = functional.batch_norm(bottom, mean, variance, training=True, momentum=1.0, eps=self.eps)
        self._update(mean, variance)
        return top

    @torch.no_grad()
    def _update(self, mean: Tensor, variance: Tensor) -> None:
        for i, value in enumerate((mean, variance, torch.ones_like(self.blob(2)))):
            self.blob(i).mul_(self.fraction).add_(value)

    def channel_form(self, bottom: Shape) -> ChannelForm | None:
        if not self.use_global_stats:
            return None
        mean, variance, factor = (blob.detach().double() for blob in self.blobs)
        part = torch.where(factor == 0, torch.zeros_like(factor), 1 / factor)
        scale = (variance * part + self.eps).rsqrt()
        return ChannelForm(scale, -mean * part * scale)

    def to_onnx(self, graph: "OnnxGraph", step: "OnnxStep") -> list[str]:
        if not self.use_global_stats:
            self.fail("BatchNorm on the batch's own statistics has no ONNX form; use the TEST phase")
        mean, variance, factor = (blob.detach().double().cpu().numpy() for blob in self.blobs)
        scale = 0.0 if factor[0] == 0 else 1 / factor[0]
        ones, zeros = np.ones_like(mean), np.zeros_like(mean)
        parameters = [graph.constant(value) for value in (ones, zeros, mean * scale, variance * scale)]
        return [graph.add("BatchNormalization", step.bottoms[0], *parameters, epsilon=self.eps)]

    @classmethod
    def example(cls, dice: Dice) -> Example:
        shape = (dice.integer(2, 4), *dice.shape(1, 3))
        stats = dice.switch() if count(shape) > 4 * shape[1] else "true"
        fields = f"batch_norm_param {{ use_global_stats: {stats} eps: {dice.pick(0.001, 0.1)} }}"
        return Example(fields, [dice.normal(*shape)], positive_blobs=True)
