"""``debug_info``: one training pass, layer by layer, that logs the mean absolute value of every blob."""

from collections.abc import Mapping

import torch
from torch import Tensor

from caffe_compat.layers.base import Layer
from caffe_compat.net import Net
from caffe_compat.net.blob_engine import BlobEngine
from caffe_compat.solver.log import Log


class DebugPass:
    """Runs a net over blobs, as Caffe does, and writes Caffe's ``[Forward]`` and ``[Backward]`` lines."""

    def __init__(self, net: Net, log: Log, engine: BlobEngine | None = None) -> None:
        self.net = net
        self.log = log
        self.engine = engine or BlobEngine(net)
        # A shared parameter is displayed by its owner's name.
        self._names: dict[int, str] = {}
        for step in net.steps:
            for i, parameter in enumerate(step.layer.blobs):
                self._names.setdefault(id(parameter), _display_name(step.layer, i))

    def run(self) -> tuple[Mapping[str, Tensor], Tensor]:
        """Forward and backward, adding to ``param.grad``; returns (outputs, loss)."""
        loss = 0.0
        for number in range(len(self.net.steps)):
            loss += self.engine.forward_layer(number)
            self._log_forward(number)
        for number in reversed(range(len(self.net.steps))):
            self.engine.backward_layer(number)
            if self.net.steps[number].need_backward:
                self._log_backward(number)
        self._log_norms()
        outputs = {name: self.engine.blobs[self.net.blob_names.index(name)].data.clone() for name in self.net.outputs}
        return outputs, torch.tensor(loss, device=self.net.device, dtype=self.net.dtype)

    def _log_forward(self, number: int) -> None:
        step = self.net.steps[number]
        for index in step.tops:
            mean = _mean_abs(self.engine.blobs[index].data)
            self.log.forward_top(step.layer.name, self.net.blob_names[index], mean)
        for i, parameter in enumerate(step.layer.blobs):
            name = self._names.get(id(parameter), str(i))
            self.log.forward_param(step.layer.name, name, _mean_abs(parameter))

    def _log_backward(self, number: int) -> None:
        step = self.net.steps[number]
        for index, need in zip(step.bottoms, step.bottom_need_backward, strict=True):
            if need:
                mean = _mean_abs(self.engine.blobs[index].diff)
                self.log.backward_bottom(step.layer.name, self.net.blob_names[index], mean)
        for i, need in enumerate(step.param_need_backward):
            if need:
                mean = _mean_abs(self.engine.params[number][i].diff)
                self.log.backward_param(step.layer.name, i, mean)

    def _log_norms(self) -> None:
        parameters = [p.parameter for p in self.net.learnable]
        data = [p.detach() for p in parameters]
        diff = [p.grad for p in parameters if p.grad is not None]
        l1 = [sum(float(t.abs().sum()) for t in tensors) for tensors in (data, diff)]
        l2 = [sum(float(t.square().sum()) for t in tensors) ** 0.5 for tensors in (data, diff)]
        self.log.norms((l1[0], l1[1]), (l2[0], l2[1]))


def _display_name(layer: Layer, index: int) -> str:
    specs = layer.param.param
    return specs[index].name if index < len(specs) and specs[index].name else str(index)


def _mean_abs(tensor: Tensor) -> float:
    return float(tensor.detach().abs().sum()) / max(1, tensor.numel())
