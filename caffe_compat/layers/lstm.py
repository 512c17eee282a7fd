"""LSTM: long short-term memory over the steps of the bottom."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from caffe_compat.layers.lstm_unit import onnx_lstm_unit, run_lstm_unit
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.recurrent import Recurrent

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph


@register("LSTM")
class LSTM(Recurrent):
    """Top: h of every step.  Blobs: input weight (4 H, inputs) and bias (4 H,), [static weight
    (4 H, static inputs)], hidden weight (4 H, H); gates in the order i, f, o, g.

    State and exposed blobs: h, c.
    """

    state_names = ("h", "c")
    gates = 4
    onnx_gates = (0, 2, 1, 3)  # i, o, f, c
    graph_safe = True
    keeps_forward = True

    def run_steps(self, projected: Tensor, cont: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        h, c = state
        weight = self.blob(self.first_step_blob)
        tops = []
        for part, flag in zip(projected.unbind(0), cont.unbind(0), strict=True):
            gates = part + functional.linear(h * flag.unsqueeze(-1), weight)
            c, h = run_lstm_unit(c, gates, flag)
            tops.append(h)
        return torch.stack(tops), [h, c]

    def onnx_step(self, graph: "OnnxGraph", part: str, flag: str, state: list[str], weight: str) -> list[str]:
        h, c = state
        gates = graph.add("Add", part, graph.add("MatMul", graph.add("Mul", h, flag), weight))
        c, h = onnx_lstm_unit(graph, c, gates, flag, self.num_output)
        return [h, c]
