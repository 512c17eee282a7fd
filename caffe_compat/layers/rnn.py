"""RNN: a plain recurrent net over the steps of the bottom."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from caffe_compat.layers.base import Shape
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.recurrent import Recurrent

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph


@register("RNN")
class RNN(Recurrent):
    """h_t = tanh(W_h h_{t-1} + W x_t + b); top o_t = tanh(W_o h_t + b_o).  Blobs: input weight
    (H, inputs) and bias (H,), [static weight (H, static inputs)], hidden weight (H, H), output weight
    (H, H) and bias (H,).

    State and exposed blob: h.
    """

    state_names = ("h",)
    graph_safe = True
    keeps_forward = True

    def step_blobs(self) -> dict[str, Shape]:
        size = self.num_output
        return {"hidden_weight": (size, size), "output_weight": (size, size), "output_bias": (size,)}

    def run_steps(self, projected: Tensor, cont: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        (h,) = state
        first = self.first_step_blob
        hidden = []
        for part, flag in zip(projected.unbind(0), cont.unbind(0), strict=True):
            h = torch.tanh(part + functional.linear(h * flag.unsqueeze(-1), self.blob(first)))
            hidden.append(h)
        top = torch.tanh(functional.linear(torch.stack(hidden), self.blob(first + 1), self.blob(first + 2)))
        return top, [h]

    def onnx_step(self, graph: "OnnxGraph", part: str, flag: str, state: list[str], weight: str) -> list[str]:
        (h,) = state
        return [graph.add("Tanh", graph.add("Add", part, graph.add("MatMul", graph.add("Mul", h, flag), weight)))]

    def onnx_top(self, graph: "OnnxGraph", hidden: str) -> str:
        weight, bias = self.blob(self.first_step_blob + 1), self.blob(self.first_step_blob + 2)
        product = graph.add("MatMul", hidden, graph.constant(weight.t()))
        return graph.add("Tanh", graph.add("Add", product, graph.constant(bias)))
