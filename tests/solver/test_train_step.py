"""The ways to make gradients and update, through their one interface."""

import io
from typing import Any

import pytest
import torch

from caffe_compat.solver import Log, Solver
from caffe_compat.solver.graphs import EagerRecorder
from caffe_compat.solver.parallel import SINGLE
from caffe_compat.solver.train_step import DebugStep, PlainStep, RecordedStep, TrainStep, make_train_step
from tests.solver.conftest import MakeSolver, messages, weights


def make(kind: str, solver: Solver, log: Log | None = None) -> TrainStep:
    log = log or Log(enabled=False)
    shared: dict[str, Any] = {"parallel": SINGLE, "overlap": True, "precision": "fp32"}
    if kind == "recorded":
        return RecordedStep(solver.net, solver.optimizer, EagerRecorder(), precision="fp32", log=log)
    if kind == "debug":
        return DebugStep(solver.net, solver.optimizer, **shared, log=log)
    return PlainStep(solver.net, solver.optimizer, **shared)


@pytest.mark.parametrize("kind", ["plain", "recorded", "debug"])
def test_one_iteration_through_the_interface(kind: str, make_solver: MakeSolver) -> None:
    """Two passes add up their gradients; the update is SGD's first, -rate * (gradient / 2 + decay)."""
    expected = make_solver(iter_size=2)
    passes = [expected.net.forward_with_loss()[1] for _ in range(2)]
    (passes[0] + passes[1]).backward()
    losses = [float(loss.detach()) for loss in passes]

    solver = make_solver(iter_size=2)
    step = make(kind, solver)
    step.clear_gradients()
    outputs, loss = step.accumulate(2, display=False)
    assert float(loss) == pytest.approx(sum(losses) / 2, rel=1e-6)
    assert float(outputs["loss"]) == pytest.approx(losses[1], rel=1e-6)
    assert not loss.requires_grad
    gradients = [p.grad.clone() for p in solver.net.parameters() if p.grad is not None]
    for ours, theirs in zip(gradients, expected.net.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs.grad)
    before = [p.detach().clone() for p in solver.net.parameters()]
    step.update()
    for learnable, old, gradient in zip(solver.net.learnable, before, gradients, strict=True):
        decay = 0.001 * learnable.decay_mult * old
        new = learnable.parameter.detach()
        torch.testing.assert_close(new, old - 0.05 * learnable.lr_mult * (gradient / 2 + decay))
    step.clear_gradients()
    assert kind == "recorded" or all(p.grad is None for p in solver.net.parameters())


def test_a_debug_step_logs_at_displays_only(make_solver: MakeSolver) -> None:
    stream = io.StringIO()
    step = make("debug", make_solver(), Log(stream))
    step.forward_backward()
    assert stream.getvalue() == ""
    step.forward_backward(display=True)
    assert messages(stream)[0].startswith("    [Forward] Layer data, top blob data data: ")


def test_the_step_of_a_solver_file(make_solver: MakeSolver) -> None:
    stream = io.StringIO()
    assert type(make_solver().train_step) is PlainStep
    assert type(make_solver(debug_info=True).train_step) is DebugStep
    solver = make_solver()
    step = make_train_step(
        *(solver.net, solver.optimizer),
        param=solver.param,
        parallel=SINGLE,
        precision="fp32",
        fast=True,
        log=Log(stream),
    )
    assert type(step) is PlainStep
    assert messages(stream) == ["Fast mode without CUDA graphs: the net is on cpu; CUDA graphs need a CUDA device"]


def test_a_step_of_ones_own(make_solver: MakeSolver) -> None:
    """Solver.train_step may be replaced; here by one that leaves out every gradient's sign."""

    class Absolute(PlainStep):
        def update(self) -> None:
            for p in self.net.parameters():
                assert p.grad is not None
                p.grad.abs_()
            super().update()

    solver = make_solver(weight_decay=0.0)
    solver.train_step = Absolute(solver.net, solver.optimizer, parallel=SINGLE, overlap=True, precision="fp32")
    before = weights(solver)
    solver.step(1)
    after = weights(solver)
    assert all((old >= new).all() for old, new in zip(before, after, strict=True))
    assert any((old > new).any() for old, new in zip(before, after, strict=True))
