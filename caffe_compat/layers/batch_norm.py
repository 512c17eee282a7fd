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
from caffe_compat.layers.shared.fillers import fill
from caffe_compat.proto import caffe_pb2

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph, OnnxStep

SMALLEST_EPS = torch.finfo(torch.float32).tiny
NVCAFFE_EPS = 1e-5
#: the blobs that are not learned
STATISTICS = ("mean", "variance", "factor")


@register("BatchNorm")
class BatchNorm(Layer):
    """Bottom (N, C, ...) -> top (x - mean) / sqrt(variance + eps).

    Blobs mean (C,), variance (C,) and factor (1,) are decaying *sums* of the batches' means, unbiased
    variances and 1, so the running averages are mean / factor and variance / factor.  They are
    updated in training and used after ``.eval()`` and in TEST nets, unless ``use_global_stats`` says otherwise; never
    learned.

    With ``scale_bias``, or ``scale_filler`` or ``bias_filler`` (NVCaffe), two learned blobs follow, weight (C,) and
    bias (C,), as of a Scale layer behind; ``eps`` is then at least 1e-5.
    """

    param_fields = ("batch_norm_param",)
    fork_fields = tuple(f"batch_norm_param.{name}" for name in ("scale_bias", "scale_filler", "bias_filler"))
    graph_safe = True
    keeps_forward = True

    def setup(self, bottom: Shape) -> None:
        param = self.param.batch_norm_param
        # PyTorch refuses an eps of 0 in training.
        self.fraction, self.eps = float(param.moving_average_fraction), max(float(param.eps), SMALLEST_EPS)
        self._fixed = bool(param.use_global_stats) if param.HasField("use_global_stats") else None
        if len(bottom) < 2:
            self.fail(f"bottom has shape {bottom}; expected at least 2 axes (N, C)")
        for name, size in zip(STATISTICS, (bottom[1], bottom[1], 1), strict=True):
            self.add_blob(name, (size,), trainable=False)
        if param.scale_bias or param.HasField("scale_filler") or param.HasField("bias_filler"):
            self._add_scale_and_bias(bottom[1])
        for i in range(3):
            if i == len(self.param.param):
                self.param.param.add(lr_mult=0)
            elif self.param.param[i].lr_mult != 0:
                self.fail(
                    f"param {i} has lr_mult {self.param.param[i].lr_mult}; statistics are not learned, set it to 0"
                )

    def _add_scale_and_bias(self, channels: int) -> None:
        param = self.param.batch_norm_param
        self.eps = max(self.eps, NVCAFFE_EPS)
        one = caffe_pb2.FillerParameter(type="constant", value=1)
        filler = param.scale_filler if param.HasField("scale_filler") else one
        self.add_blob("weight", (channels,), lambda t: fill(t, filler))
        self.add_blob("bias", (channels,), lambda t: fill(t, param.bias_filler))

    def _scale_and_bias(self) -> tuple[Tensor | None, Tensor | None]:
        return (self.blob(3), self.blob(4)) if len(self._blob_names) > 3 else (None, None)

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
        scale, bias = self._scale_and_bias()
        if self.use_global_stats:
            return functional.batch_norm(bottom, *self.running_statistics(), scale, bias, eps=self.eps)
        if count(bottom.shape) == bottom.shape[1]:
            # One value per channel, which PyTorch refuses.
            self._update(bottom.detach().flatten(), torch.zeros_like(self.blob(1)))
            zeros = bottom - bottom
            if scale is None or bias is None:
                return zeros
            return zeros * scale.reshape(zeros.shape) + bias.reshape(zeros.shape)
        # With momentum 1 PyTorch writes the batch's mean and unbiased variance, as they are.
        mean, variance = torch.zeros_like(self.blob(0)), torch.zeros_like(self.blob(1))
        top = functional.batch_norm(bottom, mean, variance, scale, bias, training=True, momentum=1.0, eps=self.eps)
        self._update(mean, variance)
        return top

    @torch.no_grad()
    def _update(self, mean: Tensor, variance: Tensor) -> None:
        for i, value in enumerate((mean, variance, torch.ones_like(self.blob(2)))):
            self.blob(i).mul_(self.fraction).add_(value)

    def channel_form(self, bottom: Shape) -> ChannelForm | None:
        if not self.use_global_stats:
            return None
        mean, variance, factor, *learned = (blob.detach().double() for blob in self.blobs)
        part = torch.where(factor == 0, torch.zeros_like(factor), 1 / factor)
        scale = (variance * part + self.eps).rsqrt()
        if not learned:
            return ChannelForm(scale, -mean * part * scale)
        weight, bias = learned
        return ChannelForm(scale * weight, bias - mean * part * scale * weight)

    def to_onnx(self, graph: "OnnxGraph", step: "OnnxStep") -> list[str]:
        if not self.use_global_stats:
            return [self._onnx_of_batch(graph, step.bottoms[0], len(step.bottom_shapes[0]))]
        mean, variance, factor, *learned = (blob.detach().double().cpu().numpy() for blob in self.blobs)
        share = 0.0 if factor[0] == 0 else 1 / factor[0]
        scale, bias = learned or (np.ones_like(mean), np.zeros_like(mean))
        parameters, eps = [scale, bias, mean * share, variance * share], self.eps
        if graph.half:  # which may hold neither a large variance nor a small eps
            gain = scale / np.sqrt(variance * share + self.eps)
            parameters, eps = [gain, bias - mean * share * gain, np.zeros_like(mean), np.ones_like(mean)], 0.0
        return [graph.add("BatchNormalization", step.bottoms[0], *map(graph.constant, parameters), epsilon=eps)]

    def _onnx_of_batch(self, graph: "OnnxGraph", value: str, rank: int) -> str:
        axes = graph.sizes([0, *range(2, rank)])
        centred = graph.add("Sub", value, graph.add("ReduceMean", value, axes))
        variance = graph.add("ReduceMean", graph.add("Mul", centred, centred), axes)
        top = graph.add("Div", centred, graph.add("Sqrt", graph.shift(variance, self.eps)))
        scale, bias = (None if blob is None else blob.reshape(-1, *[1] * (rank - 2)) for blob in self._scale_and_bias())
        if scale is None or bias is None:
            return top
        return graph.add("Add", graph.add("Mul", top, graph.constant(scale)), graph.constant(bias))

    @classmethod
    def example(cls, dice: Dice) -> Example:
        shape = (dice.integer(2, 4), *dice.shape(1, 3))
        stats = dice.switch() if count(shape) > 4 * shape[1] else "true"
        fields = f"use_global_stats: {stats} eps: {dice.pick(0.001, 0.1)} scale_bias: {dice.switch()}"
        return Example(f"batch_norm_param {{ {fields} }}", [dice.normal(*shape)], positive_blobs=True)
