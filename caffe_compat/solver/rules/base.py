"""The order of one update, shared by all rules: clip, normalise, regularise, rule, apply."""

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Any, ClassVar

import torch
from torch import Tensor

from caffe_compat import extension
from caffe_compat.errors import SolverError

REGULARIZATIONS = ("L2", "L1")


class DeviceRates:
    """The groups' learning rates on one device, where a recorded graph reads the present ones."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._values: list[float] = []
        self.views: list[Tensor] = []  # one float64 number for each group

    def set(self, values: list[float]) -> None:
        """Write what has changed; the value travels with the kernel's launch, so that nothing waits."""
        if len(values) != len(self._values):
            self._values, self._all = [], torch.zeros(len(values), dtype=torch.float64, device=self._device)
            self.views = list(self._all.unbind())
        if values == self._values:
            return
        if len(set(values)) == 1:
            self._all.fill_(values[0])
        else:
            for view, value in zip(self.views, values, strict=True):
                view.fill_(value)
        self._values = list(values)


@dataclass
class _Call:
    """The parameters that one call of the fused operator updates."""

    momentum: float
    rms_decay: float
    momentum2: float
    delta: float
    params: list[Tensor] = field(default_factory=list)
    rates: list[Tensor] = field(default_factory=list)
    lr_mults: list[float] = field(default_factory=list)
    decays: list[float] = field(default_factory=list)

    def add(self, parameter: Tensor, rate: Tensor, group: dict[str, Any]) -> None:
        self.params.append(parameter)
        self.rates.append(rate)
        self.lr_mults.append(group["lr_mult"])
        self.decays.append(group["weight_decay"] * group["decay_mult"])


class Rule(torch.optim.Optimizer):
    """Base of Caffe's update rules.  ``step()`` does, with g = ``param.grad``:

    1. clip: g *= clip_gradients / |g| when the L2 norm over all parameters exceeds it (never when negative);
    2. normalise: g /= iter_size (gradients are accumulated over that many passes);
    3. regularise: g += weight_decay * decay_mult * w (L2) or * sign(w) (L1);
    4. the rule turns g and its histories into an update u, with the rate lr * lr_mult inside;
    5. w -= u.

    A parameter group may set ``lr``, ``lr_mult`` and ``decay_mult`` (default 1, 1), Caffe's per-blob multipliers.
    Parameters without gradient count as having a zero one.  Nothing waits for the device; ``last_norm`` and
    ``last_scale`` keep the clipping's numbers there.  A step uses up ``param.grad``.

    ``keep_update``: leave u in ``param.grad`` after the step, as Caffe leaves it in the blob's diff.
    ``fused``: steps 2 to 5 of all parameters in one call and one pass over the memory (csrc/solver_update); the default
    where the extension has the operator.  Without it, each step is a multi-tensor operation of PyTorch's, by group.

    For CUDA graphs a step comes in two halves: ``begin_step()`` brings the learning rates to the device, ``update()``
    (what a graph records) reads them there.
    Raises SolverError for a field outside its range.
    """

    type: ClassVar[str] = ""
    #: history tensors per parameter; in a .solverstate the first of all parameters come first
    history_count: ClassVar[int] = 1
    #: the history holds updates (rate inside), so a rate of 0 leaves it at 0
    rate_in_history: ClassVar[bool] = False

    # torch keeps its compiler away from these two by importing it, which takes seconds at each start.
    add_param_group = inspect.unwrap(torch.optim.Optimizer.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.Optimizer.zero_grad)

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        *,
        weight_decay: float = 0.0,
        regularization_type: str = "L2",
        clip_gradients: float = -1.0,
        iter_size: int = 1,
        **settings: float,
    ) -> None:
        if regularization_type not in REGULARIZATIONS:
            raise SolverError(f'regularization_type is "{regularization_type}"; expected L2 or L1')
        if iter_size < 1:
            raise SolverError(f"iter_size is {iter_size}; expected at least 1")
        defaults = {"lr": lr, "lr_mult": 1.0, "decay_mult": 1.0, "weight_decay": weight_decay, **settings}
        super().__init__(params, {**defaults, "iteration": 0})
        self.regularization_type = regularization_type
        self.clip_gradients = clip_gradients
        self.iter_size = iter_size
        self.keep_update = False
        self.fused = _has_operator()
        self._rates: dict[torch.device, DeviceRates] = {}
        self._group_rates: list[float] = []
        self.last_norm: Tensor | None = None
        self.last_scale: Tensor | None = None

    def compute_update(
        self, grads: list[Tensor], histories: list[list[Tensor]], rate: float, group: dict[str, Any]
    ) -> list[Tensor]:
        """Update ``histories`` in place and return u for each parameter; may work in place on ``grads``.

        ``histories[k]`` holds history k of every parameter; ``rate`` is lr * lr_mult * correct_rate().
        """
        raise TypeError(f"{type(self).__name__} lacks compute_update")

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """One update of all parameters; returns what ``closure`` (run with gradients on) returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.begin_step()
        self.update()
        return loss

    def begin_step(self) -> None:
        """Bring each group's rate (with Adam's correction) to its device and count the iteration; waits for nothing."""
        self._group_rates = [group["lr"] * self.correct_rate(group) for group in self.param_groups]
        for group in self.param_groups:
            group["iteration"] += 1
        for device in {p.device for group in self.param_groups for p in group["params"]}:
            self._rates.setdefault(device, DeviceRates(device)).set(self._group_rates)

    @torch.no_grad()
    def update(self) -> None:
        """The update of all parameters at the rates of the last ``begin_step``; a graph can hold all of it."""
        clip = self._clip_scale()
        calls: dict[tuple[Any, ...], _Call] = {}
        for number, group in enumerate(self.param_groups):
            params = [p for p in group["params"] if self._is_moved(p, group)]
            for p in params:
                if p.grad is None:
                    p.grad = torch.zeros_like(p)
            if params and not self.fused:
                self._update_plainly(params, clip, self._group_rates[number], group)
            for p in params if self.fused else ():
                shared = tuple(group.get(name, 0.0) for name in ("momentum", "rms_decay", "momentum2", "delta"))
                call = calls.setdefault((p.device, p.dtype, *shared), _Call(*shared))
                call.add(p, self._rates[p.device].views[number], group)
        for call in calls.values():
            self._update_fused(call, clip)

    def _clip_scale(self) -> Tensor | None:
        """What to multiply all gradients with, a 0-d tensor on their device; None where nothing is clipped."""
        grads = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        if self.clip_gradients < 0 or not grads:
            return None
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads)))
        # 0 / 0 would be NaN where every gradient is zero; there is nothing to scale then.
        scale = torch.where(norm > self.clip_gradients, self.clip_gradients / norm, torch.ones_like(norm))
        self.last_norm, self.last_scale = norm, scale
        return scale

    def _update_plainly(self, params: list[Tensor], clip: Tensor | None, rate: float, group: dict[str, Any]) -> None:
        grads: list[Any] = [p.grad for p in params]
        histories = [[self.history(p, k) for p in params] for k in range(self.history_count)]
        decay = group["weight_decay"] * group["decay_mult"]
        if clip is not None:
            torch._foreach_mul_(grads, clip)
        if self.iter_size > 1:
            torch._foreach_mul_(grads, 1.0 / self.iter_size)
        if decay:
            direction = params if self.regularization_type == "L2" else torch._foreach_sign(params)
            torch._foreach_add_(grads, direction, alpha=decay)
        updates = self.compute_update(grads, histories, rate * group["lr_mult"], group)
        torch._foreach_sub_(params, updates)
        if self.keep_update:
            torch._foreach_copy_(grads, updates)

    def _update_fused(self, call: "_Call", clip: Tensor | None) -> None:
        histories = [[self.history(p, k) for p in call.params] for k in range(self.history_count)]
        torch.ops.caffe_compat.solver_update_(
            self.type,
            call.params,
            [p.grad for p in call.params],
            histories[0],
            histories[1] if self.history_count > 1 else [],
            call.rates,
            call.lr_mults,
            call.decays,
            clip,
            1.0 / self.iter_size,
            self.regularization_type == "L1",
            call.momentum or call.rms_decay,
            call.momentum2,
            call.delta,
            self.keep_update,
        )
        # The operator writes behind autograd's back; a backward pass through the old values must be refused.
        torch.autograd.graph.increment_version(call.params)

    def correct_rate(self, group: dict[str, Any]) -> float:
        """A factor on the rate that depends on the iteration (Adam's)."""
        return 1.0

    def _is_moved(self, parameter: Tensor, group: dict[str, Any]) -> bool:
        # Frozen parameters cost nothing: without gradient, decay and history, nothing changes.
        if parameter.grad is not None or parameter in self.state:
            return True
        decays = group["weight_decay"] * group["decay_mult"] != 0
        return decays and not (self.rate_in_history and group["lr_mult"] == 0)

    # -- histories ----------------------------------------------------------------------

    def history(self, parameter: Tensor, index: int = 0) -> Tensor:
        """History ``index`` of a parameter, of its shape and type; made of zeros when there is none yet."""
        state = self.state[parameter]
        key = f"history{index}"
        if key not in state:
            state[key] = torch.zeros_like(parameter, requires_grad=False)
        return state[key]

    def histories(self, parameters: Iterable[Tensor]) -> list[Tensor]:
        """Copies of the histories in the order of a .solverstate: the first of each parameter, then the second."""
        parameters = list(parameters)
        return [
            self.state[p][f"history{k}"].clone() if p in self.state else torch.zeros_like(p, requires_grad=False)
            for k in range(self.history_count)
            for p in parameters
        ]

    @torch.no_grad()
    def load_histories(self, parameters: Iterable[Tensor], values: list[Tensor]) -> None:
        """Take histories in the order of ``histories``; the caller has checked count and shapes."""
        parameters = list(parameters)
        for i, parameter in enumerate(parameters):
            own = values[i :: len(parameters)]
            # An untouched history stays absent, so that frozen parameters keep costing nothing.
            self.state.pop(parameter, None)
            if any(bool(value.any()) for value in own):
                for k, value in enumerate(own):
                    self.history(parameter, k).copy_(value)


@cache
def _has_operator() -> bool:
    extension.load()
    return hasattr(torch.ops.caffe_compat, "solver_update_")
