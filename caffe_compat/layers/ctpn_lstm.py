"""Lstm: CTPN's LSTM, older than Caffe's own and with other blobs."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from caffe_compat.layers.base import Layer, Shape, count
from caffe_compat.layers.lstm_unit import run_lstm_unit
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example
from caffe_compat.layers.shared.fillers import fill

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph, OnnxStep


class _ClippedGradient(torch.autograd.Function):
    """Identity whose gradient is cut off at -limit and limit."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, limit: float) -> Tensor:
        ctx.limit = limit
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *top_diffs: Tensor) -> tuple[Tensor, None]:
        return top_diffs[0].clamp(-ctx.limit, ctx.limit), None


@register("Lstm")
class CtpnLstm(Layer):
    """Bottom x (T, N, ...) and, for N = 1, flags (T,): 0 where a sequence starts -> top h (T, N, H).

    Blobs: input weight (4 H, inputs), hidden weight (4 H, H), bias (4 H,); gates in the order i, f, o, g.  Without
    flags each forward starts from zero, with them from the state that the one before ended in.
    ``clipping_threshold`` above 0 limits the gradient of each gate before its nonlinearity.
    """

    param_fields = ("lstm_param",)
    bottom_count = (1, 2)
    no_gradient_bottoms = (1,)
    keeps_forward = True
    graph_safe = True
    drawing_kind = "weights"

    last_h: Tensor
    last_c: Tensor

    def setup(self, x: Shape, flags: Shape | None = None) -> None:
        param = self.param.lstm_param
        self.num_output, self.clip = int(param.num_output), float(param.clipping_threshold)
        if self.num_output < 1:
            self.fail("lstm_param.num_output is missing or 0; expected at least 1")
        self._check_bottoms(x, flags)
        if param.HasField("batch_size") and param.batch_size != x[1]:
            self.warn(f"lstm_param.batch_size {param.batch_size} has no effect: bottom 0 has {x[1]} streams (axis 1)")
        gates, inputs = 4 * self.num_output, count(x, 2)
        self.add_blob("weight", (gates, inputs), lambda t: fill(t, param.weight_filler))
        self.add_blob("hidden_weight", (gates, self.num_output), lambda t: fill(t, param.weight_filler))
        self.add_blob("bias", (gates,), lambda t: fill(t, param.bias_filler))
        for name in ("last_h", "last_c"):
            self.register_buffer(name, torch.zeros(x[1], self.num_output, dtype=self.context.dtype), persistent=False)

    def _check_bottoms(self, x: Shape, flags: Shape | None) -> None:
        if len(x) < 3 or x[0] < 1:
            self.fail(f"bottom 0 has shape {x}; expected (timesteps, streams, inputs, ...)")
        if flags is not None and (x[1] != 1 or not flags or flags[0] != x[0] or count(flags) != x[0]):
            self.fail(
                f"bottoms have shapes {x} and {flags}; expected (T, 1, inputs, ...) and (T,): flags are for one stream"
            )

    def infer_shapes(self, x: Shape, flags: Shape | None = None) -> list[Shape]:
        self._check_bottoms(x, flags)
        if count(x, 2) != self.blob_shapes[0][1]:
            self.fail(f"bottom 0 has shape {x}; the weights take {self.blob_shapes[0][1]} inputs")
        return [(x[0], x[1], self.num_output)]

    def forward(self, x: Tensor, flags: Tensor | None = None) -> Tensor:
        steps, streams = x.shape[:2]
        projected = functional.linear(x.flatten(2), self.blob(0), self.blob(2))
        if flags is None:
            h = c = x.new_zeros(streams, self.num_output)
            going_on = x.new_ones(steps, streams)
        else:
            # Copies, because the buffers are overwritten before backward reads these.
            h, c = self.last_h.clone(), self.last_c.clone()
            going_on = (flags.detach() != 0).to(x.dtype).reshape(steps, 1)
        tops = []
        for part, flag in zip(projected.unbind(0), going_on.unbind(0), strict=True):
            gates = part + functional.linear(h * flag.unsqueeze(-1), self.blob(1))
            if self.clip > 0:
                gates = _ClippedGradient.apply(gates, self.clip)
            c, h = run_lstm_unit(c, gates, flag)
            tops.append(h)
        if flags is not None:
            self.last_h.copy_(h.detach())
            self.last_c.copy_(c.detach())
        return torch.stack(tops)

    def index_limits(self, *bottom_shapes: Shape) -> dict[int, int]:
        return {1: 2} if len(bottom_shapes) > 1 else {}

    def flops(self, bottom_shapes: Sequence[Shape], top_shapes: Sequence[Shape]) -> int:
        return 2 * count(bottom_shapes[0], 0, 2) * sum(count(shape) for shape in self.blob_shapes[:2])

    def to_onnx(self, graph: "OnnxGraph", step: "OnnxStep") -> list[str]:
        if len(step.bottoms) > 1:
            self.fail("Lstm with flags (a second bottom) has no ONNX form")
        # ONNX's gates are i, o, f, g, and it adds a second bias.
        i, f, o, g = range(4)
        weight, hidden, bias = (
            torch.cat([blob.chunk(4)[gate] for gate in (i, o, f, g)]).unsqueeze(0) for blob in self.blobs
        )
        steps, streams = step.bottom_shapes[0][:2]
        x = graph.reshape(step.bottoms[0], (steps, streams, self.blob_shapes[0][1]))
        biases = torch.cat([bias, torch.zeros_like(bias)], 1)
        parameters = [graph.constant(value) for value in (weight, hidden, biases)]
        top = graph.add("LSTM", x, *parameters, hidden_size=self.num_output)
        return [graph.reshape(top, step.top_shapes[0])]

    @classmethod
    def example(cls, dice: Dice) -> Example:
        t, n, d = dice.integer(1, 4), dice.integer(1, 3), dice.integer(1, 4)
        clip = f"clipping_threshold: {dice.pick(0, 0.2)}"
        bottoms = [dice.normal(t, n, d)]
        if n == 1 and dice.integer(0, 1):
            bottoms.append(dice.indices(2, t))
        return Example(f"lstm_param {{ num_output: {dice.integer(1, 4)} {clip} }}", bottoms)
