"""The order of one update, shared by all rules: clip, normalise, regularise, rule, apply."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from caffe_compat.errors import SolverError
from caffe_compat.ops.solver_update import UpdateTensors, has_solver_update, solver_update_
from caffe_compat.solver.rules.setting import Setting

REGULARIZATIONS = ("L2", "L1")


class DeviceRates:
    """The groups' learning rates on one device, where a recorded graph reads the present ones."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._values: list[float] = []
        self.views: list[Tensor] = []  # one float64 number for each group

    def set(self, values: list[float]) -> None:
        """Write the rates, one for each group, if they have changed.  A fill takes its number along as an argument
        of the kernel, so that nothing waits for a copy."""
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


class Rule(torch.optim.Optimizer):
    """Base of Caffe's update rules.  ``step()`` does, with g = ``param.grad``:

    1. clip: ``g *= clip_gradients / |g|`` when the L2 norm over all parameters exceeds it (never when negative);
    2. normalise: ``g /= iter_size`` (gradients are accumulated over that many passes);
    3. regularise: ``g += weight_decay * decay_mult * w`` (L2) or ``* sign(w)`` (L1);
    4. the rule turns g and its histories into an update u, with the rate lr * lr_mult inside;
    5. w -= u.

    A rule is a subclass in a file of its own: ``@register_rule`` names it, ``settings`` declares its numbers (keywords
    of its constructor, checked there and in the solver file), ``compute_update`` is its formula.

    A parameter group may set ``lr``, ``lr_mult`` and ``decay_mult`` (default 1, 1), Caffe's per-blob multipliers.
    Parameters without gradient count as having a zero one.  Nothing waits for the device; ``last_norm`` and
    ``last_scale`` keep the clipping's numbers there.  A step uses up ``param.grad``.

    ``keep_update``: leave u in ``param.grad`` after the step, as Caffe leaves it in the blob's diff.
    ``fused``: steps 2 to 5 of all parameters in one call and one pass over the memory (``ops.solver_update_``); the
    default for a rule with a ``kernel``, where the extension is built.  Else each step is a multi-tensor operation of
    PyTorch's, by group.

    For CUDA graphs a step comes in two halves: ``begin_step()`` brings the learning rates to the device, ``update()``
    (what a graph records, when ``fused``) reads them there.
    Raises SolverError for a field outside its range, and for a setting that the rule does not have.
    """

    #: the name in solver files; ``register_rule`` sets it
    type: ClassVar[str] = ""
    #: the rule's own numbers, beside those that all rules take
    settings: ClassVar[tuple[Setting, ...]] = ()
    #: fields of a solver file that must stay 0 for this rule
    refused: ClassVar[tuple[str, ...]] = ()
    #: the rule's name in ``ops.solver_update_``; none: the multi-tensor operations run
    kernel: ClassVar[str] = ""
    #: history tensors per parameter; in a .solverstate the first of all parameters come first
    history_count: ClassVar[int] = 1
    #: the history holds updates (rate inside), so a rate of 0 leaves it at 0
    rate_in_history: ClassVar[bool] = False

    # torch keeps its compiler away from these two by importing it, which takes seconds at each start.
    add_param_group = inspect.unwrap(torch.optim.Optimizer.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.Optimizer.zero_grad)

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        # Another formula is not that of the inherited kernel.
        if "compute_update" in cls.__dict__ and "kernel" not in cls.__dict__:
            cls.kernel = ""

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
        shared = {"lr": lr, "lr_mult": 1.0, "decay_mult": 1.0, "weight_decay": weight_decay}
        super().__init__(params, {**shared, **self._checked(settings), "iteration": 0})
        self.regularization_type = regularization_type
        self.clip_gradients = clip_gradients
        self.iter_size = iter_size
        self.keep_update = False
        self.fused = bool(self.kernel) and has_solver_update()
        #: bfloat16 copies of parameters, which a fused step writes with the parameters (``ops.rounded``)
        self.copies: Mapping[Tensor, Tensor] = {}
        self._rates: dict[torch.device, DeviceRates] = {}
        self._group_rates: list[float] = []
        self.last_norm: Tensor | None = None
        self.last_scale: Tensor | None = None

    def _checked(self, settings: dict[str, float]) -> dict[str, float]:
        """The value of every setting; SolverError for one outside its range or of no known name."""
        names = [setting.name for setting in self.settings]
        for name in settings:
            if name not in names:
                raise SolverError(f"{type(self).__name__} has no setting {name}; it has {', '.join(names) or 'none'}")
        values = {setting.name: settings.get(setting.name, setting.default) for setting in self.settings}
        for setting in self.settings:
            setting.check(values[setting.name], type(self).__name__)
        return values

    def compute_update(
        self, grads: list[Tensor], histories: list[list[Tensor]], rate: float, group: dict[str, Any]
    ) -> list[Tensor]:
        """Update ``histories`` in place and return u for each parameter; may work in place on ``grads``.

        ``histories[k]`` holds history k of every parameter; ``rate`` is lr * lr_mult * correct_rate().
        """
        raise TypeError(f"{type(self).__name__} lacks compute_update")

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
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
        calls: dict[tuple[Any, ...], UpdateTensors] = {}
        for number, group in enumerate(self.param_groups):
            params = [p for p in group["params"] if self._is_moved(p, group)]
            for p in params:
                if p.grad is None:
                    p.grad = torch.zeros_like(p)
            if params and not self.fused:
                self._update_plainly(params, clip, self._group_rates[number], group)
            for p in params if self.fused else ():
                numbers = tuple(group[setting.name] for setting in self.settings)
                tensors = calls.setdefault((p.device, p.dtype, numbers), UpdateTensors())
                self._add_to_call(tensors, p, self._rates[p.device].views[number], group)
        for (_, _, numbers), tensors in calls.items():
            self._update_fused(tensors, numbers, clip)

    def _add_to_call(self, tensors: UpdateTensors, parameter: Tensor, rate: Tensor, group: dict[str, Any]) -> None:
        assert parameter.grad is not None  # update() has seen to it
        tensors.params.append(parameter)
        tensors.grads.append(parameter.grad)
        tensors.first.append(self.history(parameter, 0))
        if self.history_count > 1:
            tensors.second.append(self.history(parameter, 1))
        tensors.rates.append(rate)
        tensors.lr_mults.append(group["lr_mult"])
        tensors.decays.append(group["weight_decay"] * group["decay_mult"])
        if self.copies:
            copy = self.copies.get(parameter)
            tensors.copies.append(parameter.new_empty(0) if copy is None else copy)

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

    def _update_fused(self, tensors: UpdateTensors, numbers: tuple[float, ...], clip: Tensor | None) -> None:
        arguments = {s.argument or s.name: number for s, number in zip(self.settings, numbers, strict=True)}
        solver_update_(
            self.kernel,
            tensors,
            clip=clip,
            gradient_scale=1.0 / self.iter_size,
            l1=self.regularization_type == "L1",
            keep_update=self.keep_update,
            **arguments,
        )

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
        output: Tensor = state[key]
        return output

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
