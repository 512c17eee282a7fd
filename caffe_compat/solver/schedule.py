"""Caffe's learning rate policies, a class for each, and the schedule that follows the one of a solver file."""

import math
import warnings
from collections.abc import Callable
from typing import ClassVar

from caffe_compat.errors import SolverError
from caffe_compat.proto import caffe_pb2


class Policy:
    """A learning rate by iteration, from the fields of a SolverParameter.

    A new policy is a subclass here with ``@_policy("name")``: ``least`` gives the fields that it needs, each with
    its smallest value, ``rate`` the formula.
    """

    least: ClassVar[tuple[tuple[str, int], ...]] = ()
    #: fields that Caffe takes for 0 where they are left out, and what that does
    left_out: ClassVar[tuple[tuple[str, str], ...]] = ()
    #: whether the log tells when ``step`` has changed
    tells_step: ClassVar[bool] = False

    def step(self, param: caffe_pb2.SolverParameter, iteration: int, step: int) -> int:
        """The ``current_step`` of this iteration, which the .solverstate keeps; ``step`` is that of the one before."""
        return step

    def rate(self, param: caffe_pb2.SolverParameter, iteration: int, step: int) -> float:
        """The rate of this iteration at ``current_step``; OverflowError stands for infinity."""
        raise TypeError(f"{type(self).__name__} lacks rate")


#: the policies by the names that solver files use
POLICIES: dict[str, Policy] = {}


def _policy(name: str) -> Callable[[type[Policy]], type[Policy]]:
    def add(policy: type[Policy]) -> type[Policy]:
        POLICIES[name] = policy()
        return policy

    return add


@_policy("fixed")
class Fixed(Policy):
    """base_lr."""

    def rate(self, param: caffe_pb2.SolverParameter, iteration: int, step: int) -> float:
        return param.base_lr


@_policy("step")
class Step(Policy):
    """base_lr * gamma ^ current_step, with current_step = iter // stepsize."""

    least = (("gamma", 0), ("stepsize", 1))
    left_out = (("gamma", "the rate is 0 from iteration {stepsize} on"),)

    def step(self, param: caffe_pb2.SolverParameter, iteration: int, step: int) -> int:
        return iteration // param.stepsize

    def rate(self, param: caffe_pb2.SolverParameter, iteration: int, step: int) -> float:
        return param.base_lr * param.gamma**step


@_policy("exp")
class Exp(Policy):
    """base_lr * gamma ^ iter."""

    least = (("gamma", 0),)
    left_out = (("gamma", "the rate is 0 from iteration 1 on"),)

    def rate(self, param: caffe_pb2.SolverParameter, iteration: int, step: int) -> float:
        return param.base_lr * param.gamma**iteration


@_policy("inv")
class Inv(Policy):
    """base_lr * (1 + gamma * iter) ^ -power."""

    least = (("gamma", 0),)
    left_out = (("gamma", "the rate stays at base_lr"), ("power", "the rate stays at base_lr"))

    def rate(self, param: caffe_pb2.SolverParameter, iteration: int, step: int) -> float:
        result: float = param.base_lr * (1 + param.gamma * iteration) ** -param.power
        return result


@_policy("multistep")
class MultiStep(Policy):
    """base_lr * gamma ^ current_step.

    current_step grows by at most one an iteration, when iter has reached the next stepvalue.
    """

    least = (("gamma", 0),)
    left_out = (("gamma", "the rate is 0 from the first stepvalue on"), ("stepvalue", "the rate stays at base_lr"))
    tells_step = True

    def step(self, param: caffe_pb2.SolverParameter, iteration: int, step: int) -> int:
        reached = step < len(param.stepvalue) and iteration >= param.stepvalue[step]
        return step + 1 if reached else step

    def rate(self, param: caffe_pb2.SolverParameter, iteration: int, step: int) -> float:
        return param.base_lr * param.gamma**step


@_policy("poly")
class Poly(Policy):
    """base_lr * (1 - iter / max_iter) ^ power."""

    least = (("max_iter", 1),)
    left_out = (("power", "the rate stays at base_lr"),)

    def rate(self, param: caffe_pb2.SolverParameter, iteration: int, step: int) -> float:
        try:
            return param.base_lr * math.pow(1 - iteration / param.max_iter, param.power)
        except ValueError:
            raise SolverError(
                f"poly with power {param.power:g} has no rate at iteration {iteration}, "
                f"past max_iter {param.max_iter}; raise max_iter"
            ) from None


@_policy("sigmoid")
class Sigmoid(Policy):
    """base_lr / (1 + exp(-gamma * (iter - stepsize)))."""

    least = (("gamma", 0), ("stepsize", 1))
    left_out = (("gamma", "the rate is half of base_lr throughout"),)

    def rate(self, param: caffe_pb2.SolverParameter, iteration: int, step: int) -> float:
        exponent = -param.gamma * (iteration - param.stepsize)
        # Past 700 exp overflows a double; the rate is 0 in float32 long before.
        return param.base_lr / (1 + math.exp(min(exponent, 700.0)))


class Schedule:
    """The global learning rate of a SolverParameter, by iteration.

    ``source`` is the solver file's name for messages.  Raises SolverError for a policy that does not exist
    or lacks a field it needs, and warns of fields left out that the policy then takes for 0, in silence in Caffe; an
    absent lr_policy is refused when the first rate is asked for, as in Caffe.
    """

    def __init__(self, param: caffe_pb2.SolverParameter, source: str = "<message>") -> None:
        self.param = param
        self.source = source
        self.current_step = 0  # saved in the .solverstate
        if param.HasField("lr_policy"):
            self._check(self._policy())
            self._warn(self._policy())

    @property
    def tells_step(self) -> bool:
        """Whether the log tells when ``current_step`` has changed."""
        return self._policy().tells_step

    def rate(self, iteration: int) -> float:
        """The rate of this iteration; call once an iteration, in order (``multistep`` counts the calls)."""
        policy = self._policy()
        self.current_step = policy.step(self.param, iteration, self.current_step)
        try:
            return policy.rate(self.param, iteration, self.current_step)
        except OverflowError:
            return math.inf
        except SolverError as error:
            raise SolverError(f"{self.source}: lr_policy: {error}") from None

    def _policy(self) -> Policy:
        name = self.param.lr_policy
        if name not in POLICIES:
            came = f'"{name}"' if self.param.HasField("lr_policy") else "not set"
            raise SolverError(f"{self.source}: lr_policy is {came}; expected one of {', '.join(POLICIES)}")
        return POLICIES[name]

    def _check(self, policy: Policy) -> None:
        for field, least in policy.least:
            value = getattr(self.param, field)
            if not value >= least:
                came = f"{value:g}" if self.param.HasField(field) else "not set"
                place = f"{self.source}: {field} is {came}"
                raise SolverError(f"{place}; expected at least {least} for lr_policy {self.param.lr_policy}")

    def _warn(self, policy: Policy) -> None:
        fields = {descriptor.name for descriptor, _ in self.param.ListFields()}
        for field, effect in (("base_lr", "it is 0, and nothing is learned"), *policy.left_out):
            if field not in fields:
                told = effect.format(stepsize=self.param.stepsize)
                policy_name = self.param.lr_policy
                warnings.warn(f"{self.source}: {field} is not set: with lr_policy {policy_name} {told}", stacklevel=3)
