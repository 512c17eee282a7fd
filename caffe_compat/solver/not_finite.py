"""Losses that are NaN or infinite: since when, and which layer made the first such value."""

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from caffe_compat import random
from caffe_compat.errors import SolverError
from caffe_compat.layers.base import Layer
from caffe_compat.net import Net
from caffe_compat.precision import autocast
from caffe_compat.solver.log import Log
from caffe_compat.solver.smoothed_loss import SmoothedLoss

CURE = "lower base_lr, set clip_gradients, or look at the data"


class NotFinite:
    """Warns in the log, or stops with a SolverError, when a displayed loss is not finite; again after it was finite."""

    def __init__(self, net: Net, log: Log, *, precision: str, stop: bool) -> None:
        self._net, self._log, self._precision, self._stop = net, log, precision, stop
        self._told = False

    def check(self, iteration: int, smoothed: SmoothedLoss, batch: Mapping[str, Tensor]) -> None:
        """At a display; ``batch``: that of the iteration's pass, empty where it is not known."""
        if math.isfinite(smoothed.value()):
            self._told = False
            return
        if self._told and not self._stop:
            return
        self._told = True
        losses = smoothed.get_state()
        number = next(i for i, loss in enumerate(losses) if not math.isfinite(loss))
        first = iteration - (len(losses) - 1 - number)
        origin = first_not_finite(self._net, batch, self._precision) if batch else None
        if origin and first < iteration:  # earlier batches are gone
            origin = f"in iteration {iteration} {origin}"
        message = f"Iteration {first}: the loss is {losses[number]:g}; " + (f"{origin}; " if origin else "") + CURE
        if self._stop:
            raise SolverError(message)
        self._log.loss_not_finite(message)


@torch.no_grad()
def first_not_finite(net: Net, batch: Mapping[str, Tensor], precision: str = "fp32") -> str | None:
    """Where a pass on ``batch`` has its first value that is not finite, in words; None where it has none.

    Leaves parameters, statistics and random streams as they are.
    """
    kept = [(tensor, tensor.clone()) for tensor in (*net.parameters(), *net.buffers())]
    devices = [net.device] if net.device.type == "cuda" else []
    with torch.random.fork_rng(devices), random.scope(), autocast(net.device, precision):
        found = _walk(net, batch)
    for tensor, value in kept:
        tensor.copy_(value)
    return found


def _walk(net: Net, batch: Mapping[str, Tensor]) -> str | None:
    values: dict[int, Tensor] = {}
    for step in net.steps:
        if step.layer.writes_files:
            continue
        if step.layer.is_source:
            values.update((i, batch[net.blob_names[i]]) for i in step.tops)
        else:
            step.run(values)
        bad = next((i for i in step.tops if not _is_finite([values[i]])), None)
        if bad is not None:
            return f'first in blob "{net.blob_names[bad]}" of layer "{step.layer.name}" ({_kind(step.layer)})'
    return None


def _kind(layer: Layer) -> str:
    if layer.is_source:
        return f"{layer.type}: the batch itself"
    whole = _is_finite(layer.parameters())
    return layer.type if whole else f"{layer.type}, whose weights are not finite"


def _is_finite(tensors: Iterable[Tensor]) -> bool:
    return all(bool(tensor.isfinite().all()) for tensor in tensors)
