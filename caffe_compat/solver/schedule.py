"""Caffe's learning rate policies: fixed, step, exp, inv, multistep, poly, sigmoid."""

import math
from collections.abc import Callable
from typing import Any

from caffe_compat.errors import SolverError

Rate = Callable[[Any, int, int], float]


def _fixed(param: Any, iteration: int, step: int) -> float:
    return param.base_lr


def _stepped(param: Any, iteration: int, step: int) -> float:
    return param.base_lr * param.gamma**step


def _exp(param: Any, iteration: int, step: int) -> float:
    return param.base_lr * param.gamma**iteration


def _inv(param: Any, iteration: int, step: int) -> float:
    return param.base_lr * (1 + param.gamma * iteration) ** -param.power


def _poly(param: Any, iteration: int, step: int) -> float:
    return param.base_lr * math.pow(1 - iteration / param.max_iter, param.power)


def _sigmoid(param: Any, iteration: int, step: int) -> float:
    exponent = -param.gamma * (iteration - param.stepsize)
    # Past 700 exp overflows a double; the rate is 0 in float32 long before.
    return param.base_lr / (1 + math.exp(min(exponent, 700.0)))


POLICIES: dict[str, Rate] = {
    "fixed": _fixed,
    "step": _stepped,
    "exp": _exp,
    "inv": _inv,
    "multistep": _stepped,
    "poly": _poly,
    "sigmoid": _sigmoid,
}


class Schedule:
    """The global learning rate of a SolverParameter, by iteration.

    ``fixed``: base_lr.  ``step``: base_lr * gamma ^ (iter // stepsize).  ``exp``: base_lr * gamma ^ iter.
    ``inv``: base_lr * (1 + gamma * iter) ^ -power.  ``multistep``: base_lr * gamma ^ current_step, where
    current_step grows by at most one an iteration, when iter has reached the next stepvalue.
    ``poly``: base_lr * (1 - iter / max_iter) ^ power.  ``sigmoid``: base_lr / (1 + exp(-gamma * (iter - stepsize))).

    ``source`` is the solver file's name for messages.  Raises SolverError for a policy that does not exist
    or lacks a field it needs; an absent lr_policy is refused when the first rate is asked for, as in Caffe.
    """

    def __init__(self, param: Any, source: str = "<message>") -> None:
        self.param = param
        self.source = source
        self.current_step = 0  # saved in the .solverstate
        if param.HasField("lr_policy"):
            self._check()

    def rate(self, iteration: int) -> float:
        """The rate of this iteration; call once an iteration, in order (``multistep`` counts the calls)."""
        param = self.param
        policy = param.lr_policy
        if policy not in POLICIES:
            self._check()
        if policy == "step":
            self.current_step = iteration // param.stepsize
        elif (
            policy == "multistep"
            and self.current_step < len(param.stepvalue)
            and iteration >= param.stepvalue[self.current_step]
        ):
            self.current_step += 1
        try:
            return POLICIES[policy](param, iteration, self.current_step)
        except OverflowError:
            return math.inf
        except ValueError:
            raise SolverError(
                f"{self.source}: lr_policy: poly with power {param.power:g} has no rate at iteration {iteration}, "
                f"past max_iter {param.max_iter}; raise max_iter"
            ) from None

    def _check(self) -> None:
        param = self.param
        policy = param.lr_policy
        if policy not in POLICIES:
            came = f'"{policy}"' if param.HasField("lr_policy") else "not set"
            raise SolverError(f"{self.source}: lr_policy is {came}; expected one of {', '.join(POLICIES)}")
        if policy in ("step", "exp", "inv", "multistep", "sigmoid") and not param.gamma >= 0:
            raise SolverError(f"{self.source}: gamma is {param.gamma:g}; expected at least 0 for lr_policy {policy}")
        if policy in ("step", "sigmoid") and param.stepsize <= 0:
            came = str(param.stepsize) if param.HasField("stepsize") else "not set"
            raise SolverError(f"{self.source}: stepsize is {came}; expected at least 1 for lr_policy {policy}")
        if policy == "poly" and param.max_iter <= 0:
            raise SolverError(f"{self.source}: max_iter is {param.max_iter}; expected at least 1 for lr_policy poly")
