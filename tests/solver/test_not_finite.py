"""Losses that are not finite: told with iteration and layer, and a reason to stop where asked for."""

import io
from collections.abc import Callable

import pytest
import torch

from caffe_compat import Net, random
from caffe_compat.errors import SolverError
from caffe_compat.proto import parse_net
from caffe_compat.solver import Log, Solver
from caffe_compat.solver.graphs import EagerRecorder
from caffe_compat.solver.not_finite import CURE, LossesOfADevice, first_not_finite
from caffe_compat.solver.train_step import RecordedStep
from tests.solver.conftest import MakeSolver, messages

NET = """
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 1 dim: 2 } } }
layer { name: "drop" type: "Dropout" bottom: "x" top: "drop" }
layer { name: "norm" type: "BatchNorm" bottom: "drop" top: "norm" batch_norm_param { use_global_stats: false } }
layer { name: "log" type: "Log" bottom: "x" top: "log" }
layer { name: "relu" type: "ReLU" bottom: "log" top: "log" }
layer { name: "ip" type: "InnerProduct" bottom: "log" top: "ip" inner_product_param { num_output: 2 } }
"""


def spoil(solver: Solver, at: int, value: float) -> None:
    """From iteration ``at`` on one weight of the layer ip is ``value``."""

    def change(solver: Solver) -> None:
        if solver.iter >= at:
            solver.net.params["ip"][0].data[0, 0] = value

    solver.add_callback(on_start=change)


def without_batches(solver: Solver) -> None:
    """As on a device, where the batch is known at displays only."""
    forward_backward = solver.train_step.forward_backward

    def hide(*, last: bool = True, display: bool = False) -> object:
        result = forward_backward(last=last, display=display)
        if not display:
            solver.train_step.batch = {}
        return result

    solver.train_step.forward_backward = hide  # type: ignore[method-assign, assignment]


@pytest.mark.parametrize(
    ("x", "weight", "told"),
    [
        ([[1.0, 2.0]], 1.0, None),
        ([[1.0, float("inf")]], 1.0, 'first in blob "x" of layer "in" (Input: the batch itself)'),
        ([[1.0, -1.0]], 1.0, 'first in blob "log" of layer "log" (Log)'),
        ([[1.0, 2.0]], float("nan"), 'first in blob "ip" of layer "ip" (InnerProduct, whose weights are not finite)'),
    ],
)
def test_the_first_layer(x: list[list[float]], weight: float, told: str | None) -> None:
    net = Net(parse_net(NET))
    net.params["ip"][0].data.fill_(weight)
    before = [tensor.clone() for tensor in (*net.parameters(), *net.buffers())]
    state = random.generator().get_state()
    torch_state = torch.get_rng_state()
    assert first_not_finite(net, {"x": torch.tensor(x)}) == told
    after = [*net.parameters(), *net.buffers()]
    assert all(torch.equal(a.nan_to_num(7), b.nan_to_num(7)) for a, b in zip(before, after, strict=True))
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert random.generator().get_state() == state


@pytest.mark.parametrize("recorded", [False, True])
def test_the_log_tells_once(recorded: bool, make_solver: MakeSolver) -> None:
    stream = io.StringIO()
    solver = make_solver(log=Log(stream), average_loss=1)
    if recorded:
        solver.train_step = RecordedStep(
            solver.net, solver.optimizer, EagerRecorder(), precision="fp32", log=solver.log
        )
    spoil(solver, 4, float("nan"))
    solver.step(12)
    told = [line for line in messages(stream) if "the loss is" in line]
    assert told == [
        'Iteration 4: the loss is nan; first in blob "ip" of layer "ip" (InnerProduct, whose weights are not finite); '
        "lower base_lr, set clip_gradients, or look at the data"
    ]


def test_the_iteration_is_the_first_in_the_window(make_solver: MakeSolver) -> None:
    stream = io.StringIO()
    solver = make_solver(log=Log(stream), average_loss=3)
    without_batches(solver)
    spoil(solver, 5, float("inf"))
    solver.step(7)
    assert any(
        line.startswith("Iteration 5: the loss is nan; in iteration 6 first in blob") for line in messages(stream)
    )


def test_stop(make_solver: MakeSolver) -> None:
    made = make_solver(average_loss=1)
    solver = Solver(made.param, log=Log(enabled=False), source="solver.prototxt", stop_at_nan=True)
    spoil(solver, 4, float("nan"))
    with pytest.raises(SolverError, match=r'^Iteration 4: the loss is nan; first in blob "ip" of layer "ip"'):
        solver.step(12)
    assert solver.iter == 4
    solver.close()


def test_between_displays_it_is_told_when_it_happens(make_solver: MakeSolver) -> None:
    stream = io.StringIO()
    solver = make_solver(log=Log(stream), average_loss=1)
    spoil(solver, 5, float("nan"))
    solver.step(12)
    told = [line for line in messages(stream) if "the loss is" in line]
    assert told == [
        'Iteration 5: the loss is nan; first in blob "ip" of layer "ip" (InnerProduct, whose weights are not finite); '
        f"{CURE}"
    ]


def test_where_the_batch_is_not_known_the_display_tells_the_layer(make_solver: MakeSolver) -> None:
    stream = io.StringIO()
    solver = make_solver(log=Log(stream), average_loss=1)
    without_batches(solver)
    spoil(solver, 5, float("nan"))
    solver.step(12)
    told = [line for line in messages(stream) if "the loss is" in line]
    assert told == [
        f"Iteration 5: the loss is nan; {CURE}",
        'Iteration 6: the loss is nan; first in blob "conv" of layer "conv" (Convolution, whose weights are not '
        f"finite); {CURE}",
    ]


@pytest.mark.parametrize("known", [True, False])
def test_stop_between_displays(known: bool, make_solver: MakeSolver) -> None:
    made = make_solver(average_loss=1)
    solver = Solver(made.param, log=Log(enabled=False), source="solver.prototxt", stop_at_nan=True)
    if not known:
        without_batches(solver)
    spoil(solver, 5, float("nan"))
    origin = 'first in blob "ip"' if known else 'with the next batch first in blob "ip"'
    with pytest.raises(SolverError, match=f"^Iteration 5: the loss is nan; {origin}"):
        solver.step(12)
    assert solver.iter == 5
    solver.close()


def test_losses_of_a_device_are_looked_at_when_they_have_arrived(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing waits: a copy that is not there yet is asked for again in the next iteration."""
    polls = {"left": 3}

    def start_copy(values: torch.Tensor) -> Callable[[], list[float] | None]:
        def arrived() -> list[float] | None:
            polls["left"] -= 1
            return values.tolist() if polls["left"] < 0 else None

        return arrived

    monkeypatch.setattr("caffe_compat.solver.not_finite.start_copy", start_copy)
    losses = LossesOfADevice(at_a_time=2)
    found = [losses.take(i, torch.tensor(float(i))) for i in range(6)]
    assert found == [[], [], [], [], [(0, 0.0), (1, 1.0), (2, 2.0), (3, 3.0)], [(4, 4.0), (5, 5.0)]]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="copies from a GPU")
def test_losses_of_a_gpu_arrive_without_a_wait() -> None:
    losses = LossesOfADevice()
    values = [torch.tensor(float(i), device="cuda") for i in range(40)]
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = [pair for i, value in enumerate(values) for pair in losses.take(i, value)]
        torch.cuda.set_sync_debug_mode("default")
        torch.cuda.synchronize()
        found += losses.take(40, values[0])
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert found == [(i, float(i)) for i in range(40)]
