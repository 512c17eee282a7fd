"""Learning rates against values worked out by hand from Caffe's formulas."""

import math
import warnings
from typing import Any

import pytest

from caffe_compat.errors import SolverError
from caffe_compat.proto import caffe_pb2
from caffe_compat.solver.schedule import POLICIES, Policy, Schedule

FLOAT32_FIELD = 1e-6  # the message keeps base_lr, gamma and power in float32


def make(**fields: Any) -> Schedule:
    return Schedule(caffe_pb2.SolverParameter(**fields), "solver.prototxt")


@pytest.mark.parametrize(
    ("fields", "iteration", "rate"),
    [
        ({"lr_policy": "fixed"}, 123456, 0.1),
        ({"lr_policy": "step", "gamma": 0.5, "stepsize": 7}, 6, 0.1),
        ({"lr_policy": "step", "gamma": 0.5, "stepsize": 7}, 7, 0.05),
        ({"lr_policy": "step", "gamma": 0.5, "stepsize": 7}, 21, 0.0125),
        ({"lr_policy": "step", "stepsize": 7}, 3, 0.1),  # gamma 0 to the power 0 is 1
        ({"lr_policy": "exp", "gamma": 0.9}, 3, 0.1 * 0.729),
        ({"lr_policy": "inv", "gamma": 0.1, "power": 0.75}, 30, 0.1 * 4**-0.75),
        ({"lr_policy": "poly", "power": 1.5, "max_iter": 64}, 48, 0.1 * 0.125),
        ({"lr_policy": "poly", "power": 1.5, "max_iter": 64}, 64, 0.0),
        ({"lr_policy": "poly", "power": 1.0, "max_iter": 64}, 96, -0.05),  # Caffe lets it go below 0
        ({"lr_policy": "sigmoid", "gamma": 0.2, "stepsize": 20}, 30, 0.1 / (1 + math.exp(-2))),
        ({"lr_policy": "sigmoid", "gamma": 10, "stepsize": 1000}, 0, 0.0),  # exp would overflow
    ],
)
@pytest.mark.filterwarnings("ignore:solver.prototxt. gamma is not set")
def test_rate(fields: dict[str, Any], iteration: int, rate: float) -> None:
    assert make(base_lr=0.1, **fields).rate(iteration) == pytest.approx(rate, rel=FLOAT32_FIELD, abs=1e-12)


def test_multistep_counts_one_step_a_call() -> None:
    schedule = make(base_lr=1.0, lr_policy="multistep", gamma=0.1, stepvalue=[2, 2, 5])
    rates = [schedule.rate(i) for i in range(7)]
    assert rates == pytest.approx([1, 1, 0.1, 0.01, 0.01, 0.001, 0.001], rel=FLOAT32_FIELD)
    assert schedule.current_step == 3


def test_multistep_goes_on_from_a_restored_step() -> None:
    schedule = make(base_lr=1.0, lr_policy="multistep", gamma=0.1, stepvalue=[2, 5])
    schedule.current_step = 1
    assert schedule.rate(3) == pytest.approx(0.1, rel=FLOAT32_FIELD)
    assert schedule.rate(5) == pytest.approx(0.01, rel=FLOAT32_FIELD)


def test_step_sets_current_step() -> None:
    schedule = make(base_lr=1.0, lr_policy="step", gamma=0.1, stepsize=10)
    schedule.rate(35)
    assert schedule.current_step == 3


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"lr_policy": "cosine"}, r'solver.prototxt: lr_policy is "cosine"; expected one of fixed, step'),
        ({"lr_policy": "step", "gamma": 0.1}, "stepsize is not set; expected at least 1"),
        ({"lr_policy": "step", "gamma": -0.1, "stepsize": 3}, "gamma is -0.1"),
        ({"lr_policy": "sigmoid", "gamma": 0.1, "stepsize": -3}, "stepsize is -3"),
        ({"lr_policy": "poly"}, "max_iter is not set; expected at least 1 for lr_policy poly"),
    ],
)
def test_refusals(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(SolverError, match=message):
        make(base_lr=0.1, **fields)


def test_absent_policy_is_refused_at_the_first_rate_only() -> None:
    schedule = make(base_lr=0.1)
    with pytest.raises(SolverError, match="lr_policy is not set"):
        schedule.rate(0)


def test_poly_past_the_end_has_no_rate() -> None:
    schedule = make(base_lr=0.1, lr_policy="poly", power=0.5, max_iter=10)
    with pytest.raises(SolverError, match="past max_iter 10"):
        schedule.rate(11)


def test_caffes_policies() -> None:
    assert list(POLICIES) == ["fixed", "step", "exp", "inv", "multistep", "poly", "sigmoid"]


def test_a_policy_is_one_class(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a new one says of itself decides its checks, steps and rates."""

    class Halving(Policy):
        least = (("stepsize", 2),)

        def step(self, param: caffe_pb2.SolverParameter, iteration: int, step: int) -> int:
            return max(step, iteration // param.stepsize)

        def rate(self, param: caffe_pb2.SolverParameter, iteration: int, step: int) -> float:
            return param.base_lr / float(2**step)

    monkeypatch.setitem(POLICIES, "halving", Halving())
    schedule = make(base_lr=1.0, lr_policy="halving", stepsize=3)
    assert [schedule.rate(i) for i in (0, 2, 3, 8)] == [1.0, 1.0, 0.5, 0.25]
    assert schedule.current_step == 2
    assert not schedule.tells_step
    with pytest.raises(SolverError, match="stepsize is 1; expected at least 2 for lr_policy halving"):
        make(base_lr=1.0, lr_policy="halving", stepsize=1)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"lr_policy": "step", "stepsize": 7},
            "gamma is not set: .* the rate is 0 from iteration 7 on",
        ),
        ({"lr_policy": "exp"}, "gamma is not set: with lr_policy exp the rate is 0 from iteration 1 on"),
        ({"lr_policy": "inv", "power": 1.0}, "gamma is not set: with lr_policy inv the rate stays at base_lr"),
        ({"lr_policy": "inv", "gamma": 1.0}, "power is not set: with lr_policy inv the rate stays at base_lr"),
        ({"lr_policy": "multistep", "gamma": 0.1}, "stepvalue is not set: with lr_policy multistep the rate stays"),
        (
            {"lr_policy": "multistep", "stepvalue": [3]},
            "gamma is not set: .* is 0 from the first stepvalue on",
        ),
        ({"lr_policy": "poly", "max_iter": 9}, "power is not set: with lr_policy poly the rate stays at base_lr"),
        ({"lr_policy": "sigmoid", "stepsize": 9}, "gamma is not set: .* the rate is half of base_lr throughout"),
    ],
)
def test_fields_left_out_are_told(fields: dict[str, Any], message: str) -> None:
    with pytest.warns(UserWarning, match=f"^solver.prototxt: {message}"):
        schedule = make(base_lr=0.1, **fields)
    rates = [schedule.rate(i) for i in range(9)]
    if "stays" in message:
        assert rates == [pytest.approx(0.1)] * 9
    else:
        assert rates[8] in (0.0, pytest.approx(0.05))


def test_a_missing_base_lr_is_told_and_a_zero_that_is_written_is_meant() -> None:
    with pytest.warns(UserWarning, match="base_lr is not set: with lr_policy fixed it is 0, and nothing is learned"):
        make(lr_policy="fixed")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make(lr_policy="step", base_lr=0.0, gamma=0.0, stepsize=3)
