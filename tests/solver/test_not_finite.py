"""Losses that are not finite: told with iteration and layer, and a reason to stop where asked for."""

import io

import pytest
import torch

from caffe_compat import Net, random
from caffe_compat.errors import SolverError
from caffe_compat.proto import parse_net
from caffe_compat.solver import Log, Solver
from caffe_compat.solver.graphs import EagerRecorder
from caffe_compat.solver.not_finite import first_not_finite
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
