"""Which path computes each convolution of a net fastest on this GPU, found by timing whole training steps.

Timing a convolution alone misleads: what it saves, a copy into another layout before the next layer may take again.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from caffe_compat.net import Net
from caffe_compat.ops import conv_choice
from caffe_compat.ops.conv_paths import PATHS
from caffe_compat.precision import autocast, use_precision
from caffe_compat.solver.graphs import CudaRecorder, GraphedStep
from caffe_compat.solver.rules import Rule
from caffe_compat.solver.rules.sgd import SGD

#: largest errors of a path, relative to the largest value of the result: sums of many thousand products
TOLERANCES = {"fp32": 1e-4, "tf32": 1e-2, "bf16": 4e-2, "fp16": 4e-2, "fp64": 1e-10}
#: a path is taken when the step gets faster by more than this share, which is more than the noise of a measurement
LEAST_GAIN = 0.005


@dataclass
class Tuned:
    """What tuning found: paths by key of ``conv_choice``, and milliseconds of a step before and with them."""

    choices: dict[str, str]
    before_ms: float
    after_ms: float


def tune(
    measure: Callable[[], float], say: Callable[[str], None], error: Callable[[str, str], float] | None = None
) -> Tuned:
    """Try every path of every convolution, one after the other, and keep what makes ``measure()`` smaller.

    ``measure`` runs a training step anew, so that it asks ``conv_choice``, and returns milliseconds.  The paths that
    are chosen without this remain where nothing is gained, so that the result is never slower than not choosing.
    ``error(key, path)``: the path's error, as ``PathErrors``; a path beyond ``TOLERANCES`` is not tried, and told.
    """
    conv_choice.forget_choices()
    before = best = measure()
    say(f"{before:.3f} ms a step by table or rule of thumb")
    choices: dict[str, str] = {}
    for key, path in conv_choice.chosen().items():
        for other in conv_choice.alternatives(key):
            if other == path:
                continue
            found = error(key, other) if error else 0.0
            if not found <= TOLERANCES[key.split()[1]]:
                say(f"{other} is off by {found:.1e} of the largest value for {key}: not taken")
                continue
            with conv_choice.trying({**choices, key: other}):
                took = measure()
            say(f"{took:.3f} ms with {other} for {key}")
            if took < best * (1 - LEAST_GAIN):
                choices[key], best = other, took
    with conv_choice.trying(choices):
        after = measure()
    again = measure()
    if after >= again:
        return Tuned({}, again, again)
    return Tuned(choices, again, after)


class PathErrors:
    """``(key, path)`` -> the largest error of a path against float64 on numbers of its own, a few images of the sizes
    that the key names, relative to the largest value."""

    IMAGES: ClassVar[int] = 4

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def __call__(self, key: str, path: str) -> float:
        operation, number_type, _, *_ = key.split()
        dtype = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp64": torch.float64}.get(number_type, torch.float32)
        sizes, weight_sizes, window = conv_choice.read_key(key)
        generator = torch.Generator(self._device).manual_seed(1)

        def randn(*shape: int) -> Tensor:
            values = torch.randn(shape, generator=generator, device=self._device).to(dtype)
            return values.contiguous(memory_format=torch.channels_last)

        x, weight = randn(min(self.IMAGES, sizes[0]), *sizes[1:]), randn(*weight_sizes)
        grad = randn(x.shape[0], weight.shape[0], *window.output_size(x.shape, weight.shape))

        def run(name: str, *tensors: Tensor) -> Tensor:
            x, weight, grad = tensors
            if operation == "output":
                return PATHS[name].output(x, weight, None, window, False)
            if operation == "input_grad":
                return PATHS[name].input_grad(grad, weight, (x.shape[2], x.shape[3]), window)
            return PATHS[name].weight_grad(grad, x, (weight.shape[2], weight.shape[3]), window)

        with torch.no_grad(), use_precision("tf32" if number_type == "tf32" else "fp32"):
            exact = run("caffe", x.double(), weight.double(), grad.double())
            found = run(path, x, weight, grad).double()
        return float((found - exact).abs().max() / exact.abs().max())


class StepTimer:
    """Times training steps of ``net`` on CUDA as fast mode runs them; the weights stay as they are."""

    def __init__(self, net: Net, precision: str, steps: int = 10) -> None:
        self._net, self._precision, self._steps = net, precision, steps
        self._batch = {name: _filled(value) for name, value in net.next_batch().items()}

    def __call__(self) -> float:
        """Milliseconds a step, the median of three times ``steps`` of them."""
        with use_precision(self._precision):
            graphs = GraphedStep(self._net, self._rule(), self._run, CudaRecorder(self._net.device), _ignore)
            for _ in range(2 * GraphedStep.WARM_UP + 1):  # until all is recorded
                self._step(graphs)
            return sorted(self._time(graphs) for _ in range(3))[1]

    def _rule(self) -> Rule:
        return SGD(self._net.parameters(), lr=0.0, momentum=0.9)

    def _run(self, batch: Mapping[str, Tensor]) -> tuple[Mapping[str, Tensor], Tensor]:
        with autocast(self._net.device, self._precision):
            return self._net.forward_with_loss(**batch)

    def _step(self, graphs: GraphedStep) -> None:
        graphs.clear_gradients()
        graphs.forward_backward(self._batch)
        graphs.update()

    def _time(self, graphs: GraphedStep) -> float:
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        for _ in range(self._steps):
            self._step(graphs)
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end)) / self._steps


def _filled(value: Tensor) -> Tensor:
    """Images of noise, as a product of zeros takes less power and time; labels stay 0, which every loss takes."""
    return torch.randn_like(value) if value.dim() > 2 else torch.zeros_like(value)


def _ignore(line: str) -> None:
    """For what GraphedStep says: a step that cannot be recorded is timed as it is."""
