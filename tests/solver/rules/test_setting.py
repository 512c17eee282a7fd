"""The range of a setting."""

import math

import pytest

from caffe_compat.errors import SolverError
from caffe_compat.proto.caffe_pb2 import SolverParameter
from caffe_compat.solver import Setting


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        (Setting("beta", 0.9, least=0, below=1), 1.0, "beta is 1; expected at least 0 and below 1 for Odd"),
        (Setting("beta", 0.9, least=0, below=1), -0.5, "beta is -0.5; expected at least 0 and below 1 for Odd"),
        (Setting("beta", 0.9, least=0, below=1), math.nan, "beta is nan; expected at least 0 and below 1 for Odd"),
        (Setting("beta", 0.9, least=2), 1.5, "beta is 1.5; expected at least 2 for Odd"),
        (Setting("beta", 0.9, below=2), 2.0, "beta is 2; expected below 2 for Odd"),
    ],
)
def test_outside(setting: Setting, value: float, message: str) -> None:
    with pytest.raises(SolverError, match=f"^here: {message}$"):
        setting.check(value, "Odd", "here: ")


def test_value_in_a_solver_file() -> None:
    param = SolverParameter(momentum=0.5)
    assert Setting("momentum", 0.9).value_in(param) == 0.5
    assert Setting("rms_decay", 0.9).value_in(param) == pytest.approx(0.99)  # SolverParameter's own default
    assert Setting("beta3", 0.75).value_in(param) == 0.75  # no field of this name


def test_inside() -> None:
    Setting("beta", 0.9, least=0, below=1).check(0.0, "Odd")
    Setting("beta", 0.9, below=1).check(-1e30, "Odd")
    Setting("beta", 0.9).check(math.inf, "Odd")
