"""The order of one update, shared by all rules: clip, normalise, regularise, rule, apply."""

import inspect
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, ClassVar

import torch
from torch import Tensor

from caffe_compat.errors import SolverError
from caffe_compat.ops import extension

REGULARIZATIONS = ("L2", "L1")


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
    ``fused``: steps 2 to 5 in one pass over the memory (csrc/solver_update); the default where the extension has the
    operator.  Without it, each step is a multi-tensor operation of PyTorch's.
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
        clip = self._clip_scale()
        for group in self.param_groups:
            self._update_group(group, clip)
            group["iteration"] += 1
        return loss

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

    def _update_group(self, group: dict[str, Any], clip: Tensor | None) -> None:
        decay = group["weight_decay"] * group["decay_mult"]
        rate = group["lr"] * group["lr_mult"]
        params = [p for p in group["params"] if self._is_moved(p, rate, decay)]
        if not params:
            return
        for p in params:
            if p.grad is None:
                p.grad = torch.zeros_like(p)
        grads = [p.grad for p in params]
        histories = [[self.history(p, k) for p in params] for k in range(self.history_count)]
        rate *= self.correct_rate(group)
        if self.fused:
            self._update_fused(params, grads, histories, clip, decay, rate, group)
        else:
            self._update_plainly(params, grads, histories, clip, decay, rate, group)

    def _update_plainly(
        self,
        params: list[Tensor],
        grads: list[Tensor],
        histories: list[list[Tensor]],
        clip: Tensor | None,
        decay: float,
        rate: float,
        group: dict[str, Any],
    ) -> None:
        if clip is not None:
            torch._foreach_mul_(grads, clip)
        if self.iter_size > 1:
            torch._foreach_mul_(grads, 1.0 / self.iter_size)
        if decay:
            direction = params if self.regularization_type == "L2" else torch._foreach_sign(params)
            torch._foreach_add_(grads, direction, alpha=decay)
        updates = self.compute_update(grads, histories, rate, group)
        torch._foreach_sub_(params, updates)
        if self.keep_update:
            torch._foreach_copy_(grads, updates)

    def _update_fused(
        self,
        params: list[Tensor],
        grads: list[Tensor],
        histories: list[list[Tensor]],
        clip: Tensor | None,
        decay: float,
        rate: float,
        group: dict[str, Any],
    ) -> None:
        torch.ops.caffe_compat.solver_update_(
            self.type,
            params,
            grads,
            histories[0],
            histories[1] if self.history_count > 1 else [],
            clip,
            1.0 / self.iter_size,
            decay,
            self.regularization_type == "L1",
            rate,
            group.get("momentum", group.get("rms_decay", 0.0)),
            group.get("momentum2", 0.0),
            group.get("delta", 0.0),
            self.keep_update,
        )
        # The operator writes behind autograd's back; a backward pass through the old values must be refused.
        torch.autograd.graph.increment_version(params)

    def correct_rate(self, group: dict[str, Any]) -> float:
        """A factor on the rate that depends on the iteration (Adam's)."""
        return 1.0

    def _is_moved(self, parameter: Tensor, rate: float, decay: float) -> bool:
        # Frozen parameters cost nothing: without gradient, decay and history, nothing changes.
        if parameter.grad is not None or parameter in self.state:
            return True
        return bool(decay) and not (self.rate_in_history and rate == 0)

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
