"""The declaration of one number that a rule takes."""

import math
from dataclasses import dataclass
from typing import Any

from caffe_compat.errors import SolverError


@dataclass(frozen=True)
class Setting:
    """A number of a rule, of one name in its constructor, its parameter groups and the solver file.

    ``default`` counts where a rule is made without a solver file; ``least`` <= value < ``below``.
    ``argument``: its name among the arguments of ``ops.solver_update_``, where that is another.
    """

    name: str
    default: float
    least: float = -math.inf
    below: float = math.inf
    argument: str = ""

    def value_in(self, param: Any) -> float:
        """The value in a SolverParameter (its default when not set); ``default`` when it has no such field."""
        return float(getattr(param, self.name, self.default))

    def check(self, value: float, rule: str, place: str = "") -> None:
        """Raise SolverError, with ``place`` before the message, for a value outside the range."""
        if self.least <= value < self.below or (math.isinf(self.least) and math.isinf(self.below)):
            return
        bounds = [] if math.isinf(self.least) else [f"at least {self.least:g}"]
        bounds += [] if math.isinf(self.below) else [f"below {self.below:g}"]
        raise SolverError(f"{place}{self.name} is {value:g}; expected {' and '.join(bounds)} for {rule}")
