"""Mean: a mean added to or taken from blobs, with factors (FlowNet2)."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from caffe_compat.errors import ProtoError
from caffe_compat.layers.base import Layer, Shape
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example
from caffe_compat.proto import read_blob

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph, OnnxStep


@register("Mean")
class Mean(Layer):
    """Bottoms (N, C, H, W) -> tops of the same shape, output_scale (input_scale x + or - mean_scale mean).

    The mean is ``value``, repeated over the channels, or the blob (1, c, H, W) of ``file``, repeated likewise.
    """

    param_fields = ("mean_param",)
    bottom_count = (1, None)
    top_count = (1, None)
    equal_counts = True
    constant_buffers = ("mean",)
    graph_safe = True

    mean: Tensor

    def setup(self, *bottoms: Shape) -> None:
        param = self.param.mean_param
        if not param.HasField("operation"):
            self.fail("mean_param.operation is missing; expected ADD or SUBTRACT")
        if param.HasField("file") == bool(param.value):
            self.fail("mean_param needs file, or value once or for each channel (not both)")
        sign = -1.0 if param.operation == param.SUBTRACT else 1.0
        self.factor = float(param.output_scale) * float(param.input_scale)
        mean = self._read_mean() if param.HasField("file") else torch.tensor(list(param.value), dtype=torch.float64)
        mean = mean.reshape(-1, 1, 1) if mean.dim() == 1 else mean
        term = sign * float(param.output_scale) * float(param.mean_scale) * mean
        self.register_buffer("mean", term.to(self.context.dtype), persistent=False)

    def _read_mean(self) -> Tensor:
        """(c, H, W)"""
        name = str(self.param.mean_param.file)
        if self.context.shapes_only:
            return torch.empty(1, 1, 1, device="meta")  # its file may be elsewhere
        try:
            values = torch.tensor(read_blob(name), dtype=torch.float64)
        except (OSError, ProtoError) as error:
            self.fail(f"mean_param.file {name!r}: {error}")
        shape = tuple(values.shape)
        if len(shape) not in (3, 4) or (len(shape) == 4 and shape[0] != 1):
            self.fail(f"mean_param.file {name!r} has shape {shape}; expected (1, channels, height, width)")
        return values.reshape(shape[-3:])

    def infer_shapes(self, *bottoms: Shape) -> list[Shape]:
        channels, *sizes = self.mean.shape
        for i, shape in enumerate(bottoms):
            fits = len(shape) == 4 and shape[1] % channels == 0 and (sizes == [1, 1] or sizes == list(shape[2:]))
            if not fits:
                self.fail(
                    f"bottom {i} has shape {shape}; expected (N, C, H, W) for a mean of {tuple(self.mean.shape)}: "
                    "C a multiple of its channels, H and W its sizes"
                )
        return list(bottoms)

    def _term(self, channels: int) -> Tensor:
        return self.mean.repeat(channels // self.mean.shape[0], 1, 1)

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        return tuple(bottom * self.factor + self._term(bottom.shape[1]) for bottom in bottoms)

    def to_onnx(self, graph: "OnnxGraph", step: "OnnxStep") -> list[str]:
        pairs = zip(step.bottoms, step.bottom_shapes, strict=True)
        return [
            graph.add("Add", graph.scale(bottom, self.factor), graph.constant(self._term(shape[1])))
            for bottom, shape in pairs
        ]

    @classmethod
    def example(cls, dice: Dice) -> Example:
        channels = dice.integer(1, 3)
        values = " ".join(f"value: {dice.number(-2, 2)}" for _ in range(channels))
        scales = (
            f"mean_scale: {dice.number(-2, 2)} input_scale: {dice.number(-2, 2)} output_scale: {dice.number(-2, 2)}"
        )
        fields = f"operation: {dice.pick('ADD', 'SUBTRACT')} {values} {scales}"
        return Example(f"mean_param {{ {fields} }}", [dice.normal(*dice.image(channels * dice.integer(1, 2)))])
