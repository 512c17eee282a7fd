"""Rules by name: ours, and a user's from a solver file to a resumed run."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from caffe_compat import Rule, register_rule
from caffe_compat.errors import SolverError
from caffe_compat.solver import RULES, SGD, AdaDelta, AdaGrad, Adam, Nesterov, RMSProp, Setting
from tests.solver.conftest import MakeSolver, assert_same_bits, weights
from tests.solver.rules.rule_cases import parameter


def test_every_rule_of_ours_is_registered_with_its_kernel() -> None:
    ours = {rule.type: rule for rule in (SGD, Nesterov, AdaGrad, RMSProp, AdaDelta, Adam)}
    assert ours == RULES
    assert all(rule.kernel == rule.type for rule in ours.values())


def test_a_taken_name_is_refused() -> None:
    with pytest.raises(SolverError, match=r'"SGD" is already registered by caffe_compat\.solver\.rules\.sgd'):
        register_rule("SGD")(Rule)
    assert RULES["SGD"] is SGD


@pytest.fixture
def sign_momentum() -> Iterator[type[Rule]]:
    """A user's rule: v = momentum v + (1 - momentum) g, w = (1 - rate * delta) w - rate * sign(v)."""

    @register_rule("SignMomentum")
    class SignMomentum(Rule):
        settings = (Setting("momentum", 0.5, least=0, below=1), Setting("delta", 0.25, least=0))
        refused = ("rms_decay",)

        def compute_update(
            self, grads: list[Tensor], histories: list[list[Tensor]], rate: float, group: dict[str, Any]
        ) -> list[Tensor]:
            (velocity,) = histories
            for v, g in zip(velocity, grads, strict=True):
                v.mul_(group["momentum"]).add_(g, alpha=1 - group["momentum"])
            return [rate * v.sign() for v in velocity]

    yield SignMomentum
    del RULES["SignMomentum"]


def test_a_users_rule_by_hand(sign_momentum: type[Rule]) -> None:
    p = parameter(1.0, -2.0)
    optimizer = sign_momentum([p], lr=0.5)
    assert (optimizer.type, optimizer.fused, optimizer.history_count) == ("SignMomentum", False, 1)
    p.grad = torch.tensor([4.0, -2.0], dtype=torch.float64)
    optimizer.step()  # v = 2, -1
    assert p.tolist() == [0.5, -1.5]
    p.grad = torch.tensor([-4.0, -2.0], dtype=torch.float64)
    optimizer.step()  # v = -1, -1.5
    assert p.tolist() == [1.0, -1.0]
    assert optimizer.histories([p])[0].tolist() == [-1.0, -1.5]
    with pytest.raises(SolverError, match=r"^momentum is 1; expected at least 0 and below 1 for SignMomentum$"):
        sign_momentum([p], lr=0.5, momentum=1.0)
    with pytest.raises(SolverError, match=r"^delta is -1; expected at least 0 for SignMomentum$"):
        sign_momentum([p], lr=0.5, delta=-1.0)
    with pytest.raises(SolverError, match="SignMomentum has no setting momentum2; it has momentum, delta"):
        sign_momentum([p], lr=0.5, momentum2=1.0)


def test_a_users_rule_in_a_solver_file(sign_momentum: type[Rule], make_solver: MakeSolver) -> None:
    """Chosen by its type, with the file's fields, snapshots and an exact continuation."""
    fields = {"type": "SignMomentum", "base_lr": 0.5, "momentum": 0.75, "weight_decay": 0.0, "rms_decay": 0.0}
    solver = make_solver(**fields)
    assert isinstance(solver.optimizer, sign_momentum)
    group = solver.optimizer.param_groups[0]
    assert (group["momentum"], group["delta"]) == (0.75, pytest.approx(1e-8))  # the file's, and SolverParameter's own
    before = weights(solver)
    gradients: list[list[np.ndarray]] = []
    solver.add_callback(
        on_gradients_ready=lambda s: gradients.append(
            [p.grad.numpy() for p in s.net.parameters() if p.grad is not None]
        )
    )
    solver.step(1)
    for old, new, gradient, p in zip(before, weights(solver), gradients[0], solver.net.learnable, strict=True):
        np.testing.assert_array_equal(new, old - np.float32(0.5 * p.lr_mult) * np.sign(gradient))
    solver.solve()
    resumed = make_solver(**fields)
    resumed.solve("snap_iter_6.solverstate")
    assert_same_bits(weights(solver), weights(resumed))
    ours, theirs = (s.optimizer.histories(s.net.parameters()) for s in (solver, resumed))
    assert all(bool(h.any()) for h in ours)
    assert_same_bits([h.numpy() for h in ours], [h.numpy() for h in theirs])
    for message, changed in (
        ("solver.prototxt: momentum is 1.5; expected at least 0 and below 1 for SignMomentum", {"momentum": 1.5}),
        ("solver.prototxt: rms_decay is 0.5; SignMomentum takes no rms_decay, remove it", {"rms_decay": 0.5}),
    ):
        with pytest.raises(SolverError, match=message):
            make_solver(**{**fields, **changed})
