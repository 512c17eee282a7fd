"""Update rules by the names that solver files use: ``@register_rule("SGD")`` is all that a new rule needs."""

from collections.abc import Callable
from typing import TypeVar

from caffe_compat.errors import SolverError
from caffe_compat.solver.rules.base import Rule

RuleClass = TypeVar("RuleClass", bound=type[Rule])

#: every rule that is known, by its ``type``
RULES: dict[str, type[Rule]] = {}


def register_rule(type_name: str) -> Callable[[RuleClass], RuleClass]:
    """Class decorator: make a subclass of ``Rule`` known as solver type ``type_name``.

    A solver file then chooses it by ``type``; its ``settings`` come from the solver file's fields of their names, and
    snapshots hold its ``history_count`` histories.  Raises SolverError when the name is taken by another class.

    >>> @register_rule("SignSGD")
    ... class SignSGD(Rule):
    ...     '''w -= rate * sign(g).'''
    ...     def compute_update(self, grads, histories, rate, group):
    ...         return [rate * grad.sign() for grad in grads]
    """

    def add(rule: RuleClass) -> RuleClass:
        known = RULES.get(type_name)
        if known is not None and known.__qualname__ != rule.__qualname__:
            raise SolverError(f'solver type "{type_name}" is already registered by {known.__module__}')
        RULES[type_name] = rule
        rule.type = type_name
        return rule

    return add
