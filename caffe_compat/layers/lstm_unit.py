"""LSTMUnit: one step of an LSTM after its linear part (Hochreiter and Schmidhuber, 1997)."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from caffe_compat.layers.base import Layer, Shape
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph, OnnxStep


class _LSTMUnit(torch.autograd.Function):
    """The gradient treats cont * sigmoid as a sigmoid, as Caffe's does; they agree where cont is 0 or 1."""

    @staticmethod
    def forward(ctx: Any, c_prev: Tensor, gates: Tensor, cont: Tensor) -> tuple[Tensor, Tensor]:
        i, f, o = gates[..., : 3 * c_prev.shape[-1]].sigmoid().chunk(3, -1)
        g = gates[..., 3 * c_prev.shape[-1] :].tanh()
        f = f * cont.unsqueeze(-1)
        c = f * c_prev + i * g
        tanh_c = c.tanh()
        ctx.save_for_backward(c_prev, i, f, o, g, tanh_c)
        return c, o * tanh_c

    @staticmethod
    def backward(ctx: Any, *top_diffs: Tensor) -> tuple[Tensor, Tensor, None]:
        c_diff, h_diff = top_diffs
        c_prev, i, f, o, g, tanh_c = ctx.saved_tensors
        total = c_diff + h_diff * o * (1 - tanh_c.square())
        gates_diff = [
            total * g * i * (1 - i),
            total * c_prev * f * (1 - f),
            h_diff * tanh_c * o * (1 - o),
            total * i * (1 - g.square()),
        ]
        return total * f, torch.cat(gates_diff, -1), None


def run_lstm_unit(c_prev: Tensor, gates: Tensor, cont: Tensor) -> tuple[Tensor, Tensor]:
    """c_prev (..., H), gates (..., 4 H) in the order i, f, o, g before their nonlinearity, cont (...)
    -> c and h, both (..., H)."""
    c, h = _LSTMUnit.apply(c_prev, gates, cont)
    return c, h


def onnx_lstm_unit(graph: "OnnxGraph", c_prev: str, gates: str, flag: str, size: int) -> tuple[str, str]:
    """``run_lstm_unit`` as nodes, for ``size`` hidden units; ``flag``: cont with an axis of 1 at its end."""
    parts = graph.add_many("Split", [gates, graph.sizes([size] * 4)], 4, axis=-1)
    i, f, o = (graph.add("Sigmoid", part) for part in parts[:3])
    kept = graph.add("Mul", graph.add("Mul", f, flag), c_prev)
    c = graph.add("Add", kept, graph.add("Mul", i, graph.add("Tanh", parts[3])))
    return c, graph.add("Mul", o, graph.add("Tanh", c))


@register("LSTMUnit")
class LSTMUnit(Layer):
    """Bottoms c (1, N, H), gates (1, N, 4 H) in the order i, f, o, g, and cont (1, N): 0 where a
    sequence starts -> tops c and h (1, N, H)."""

    bottom_count = (3, 3)
    top_count = (2, 2)
    no_gradient_bottoms = (2,)
    graph_safe = True

    def infer_shapes(self, c_prev: Shape, gates: Shape, cont: Shape) -> list[Shape]:
        if len(c_prev) != 3 or gates != (1, c_prev[1], 4 * c_prev[2]) or cont != (1, c_prev[1]) or c_prev[0] != 1:
            self.fail(f"bottoms have shapes {c_prev}, {gates} and {cont}; expected (1, N, H), (1, N, 4 H) and (1, N)")
        return [c_prev, c_prev]

    def forward(self, c_prev: Tensor, gates: Tensor, cont: Tensor) -> tuple[Tensor, Tensor]:
        return run_lstm_unit(c_prev, gates, cont.detach())

    def to_onnx(self, graph: "OnnxGraph", step: "OnnxStep") -> list[str]:
        c_prev, gates, cont = step.bottoms
        flag = graph.unsqueeze(graph.read(cont), [2])
        return list(onnx_lstm_unit(graph, c_prev, gates, flag, step.bottom_shapes[0][2]))

    def index_limits(self, c_prev: Shape, gates: Shape, cont: Shape) -> dict[int, int]:
        return {2: 2}

    @classmethod
    def example(cls, dice: Dice) -> Example:
        n, d = dice.integer(1, 4), dice.integer(1, 4)
        return Example("", [dice.normal(1, n, d), dice.normal(1, n, 4 * d), dice.indices(2, 1, n)], tops=2)
