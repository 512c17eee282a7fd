"""Losses that are NaN or infinite: since when, and which layer made the first such value."""

import math
from collections.abc import Callable, Iterable, Mapping

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
    """Warns in the log, or stops with a SolverError, when a loss is not finite: when it happens, and with its layer
    at a display; again after a displayed loss was finite.
    """

    def __init__(self, net: Net, log: Log, *, precision: str, stop: bool) -> None:
        self._net, self._log, self._precision, self._stop = net, log, precision, stop
        self._seen = False  # when it happened
        self._told = False  # at a display
        self._later = LossesOfADevice()

    def watch(self, iteration: int, loss: Tensor, batch: Mapping[str, Tensor]) -> None:
        """After each iteration that is not displayed; never waits for a device, so that a GPU's losses come later.

        ``batch``: as in ``check``.
        """
        if self._seen or self._told:
            return
        losses = self._later.take(iteration, loss) if loss.is_cuda else [(iteration, float(loss))]
        for number, value in losses:
            if not math.isfinite(value):
                self._see(number, value, batch)
                return

    def _see(self, iteration: int, value: float, batch: Mapping[str, Tensor]) -> None:
        self._seen = True
        origin = first_not_finite(self._net, batch, self._precision) if batch else None
        self._told = origin is not None
        if self._stop and not batch:
            origin = first_not_finite(self._net, self._net.next_batch(), self._precision)
            origin = f"with the next batch {origin}" if origin else None
        message = f"Iteration {iteration}: the loss is {value:g}; " + (f"{origin}; " if origin else "") + CURE
        if self._stop:
            raise SolverError(message)
        self._log.loss_not_finite(message)

    def check(self, iteration: int, smoothed: SmoothedLoss, batch: Mapping[str, Tensor]) -> None:
        """At a display; ``batch``: that of the iteration's pass, empty where it is not known."""
        if math.isfinite(smoothed.value()):
            self._seen = self._told = False
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


class LossesOfADevice:
    """Brings losses to the host some at a time, without a wait: they are looked at once their copy is there."""

    def __init__(self, at_a_time: int = 20) -> None:
        self._at_a_time = at_a_time
        self._waiting: list[tuple[int, Tensor]] = []
        self._on_their_way: list[tuple[list[int], Callable[[], list[float] | None]]] = []

    def take(self, iteration: int, loss: Tensor) -> list[tuple[int, float]]:
        """Take one, and give back those of earlier iterations that have arrived."""
        self._waiting.append((iteration, loss.detach()))
        if len(self._waiting) == self._at_a_time:
            iterations, losses = zip(*self._waiting, strict=True)
            self._on_their_way.append((list(iterations), start_copy(torch.stack(losses))))
            self._waiting.clear()
        found: list[tuple[int, float]] = []
        while self._on_their_way:
            numbers, arrived = self._on_their_way[0]
            values = arrived()
            if values is None:
                break
            found += zip(numbers, values, strict=True)
            del self._on_their_way[0]
        return found


def start_copy(values: Tensor) -> Callable[[], list[float] | None]:
    """Start to copy a vector from a CUDA device to the host; the result tells its values, None until they are there."""
    host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    host.copy_(values, non_blocking=True)
    event = torch.cuda.Event()
    event.record(torch.cuda.current_stream(values.device))

    def arrived() -> list[float] | None:
        return [float(value) for value in host] if event.query() else None

    return arrived


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
