"""bf16: the update writes the parameters' bfloat16 copies, and training has the bits of rounding them in each pass.

Fast mode's operators for CUDA run on the CPU here, and the tape recorder keeps CUDA's rules: recorded passes read the
copies, recorded updates write them, both at the places that they had while recording.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from caffe_compat.net import Net
from caffe_compat.ops.rounded import RoundedCopies
from caffe_compat.proto import parse_message
from caffe_compat.proto.caffe_pb2 import SolverParameter
from caffe_compat.solver import Log, Solver
from caffe_compat.solver.evaluation import Result
from caffe_compat.solver.train_step import RecordedStep
from tests.solver.conftest import NET, SOLVER, assert_same_bits, weights
from tests.solver.tape_recorder import TapeRecorder

EVERYWHERE = ("cuda", "meta", "cpu")
#: a tower with groups, and a chain with ReLU and Dropout
FURTHER = """
layer { name: "conv2" type: "Convolution" bottom: "conv" top: "conv2"
  convolution_param { num_output: 16 kernel_size: 3 pad: 1 group: 2 weight_filler { type: "gaussian" std: 0.2 } } }
layer { name: "hidden" type: "InnerProduct" bottom: "conv2" top: "hidden"
  inner_product_param { num_output: 8 weight_filler { type: "xavier" } } }
layer { name: "relu3" type: "ReLU" bottom: "hidden" top: "hidden" }
layer { name: "drop3" type: "Dropout" bottom: "hidden" top: "hidden" }
"""


@pytest.fixture
def run(job: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Solver]]:
    """Trains with or without copies: five iterations, ``between``, four more, ``between``, two more."""
    for module in ("chains", "tower"):
        monkeypatch.setattr(f"caffe_compat.net.{module}.DEVICES", EVERYWHERE)
    monkeypatch.setattr("caffe_compat.net.net.TOWER_DEVICES", EVERYWHERE)
    text = NET.replace('layer {\n  name: "ip"', FURTHER + 'layer {\n  name: "ip"').replace(
        "num_output: 4", "num_output: 16"
    )
    text = text.replace(
        'layer { name: "drop" type: "Dropout" bottom: "conv" top: "conv" dropout_param { dropout_ratio: 0.3 } }', ""
    )
    text = text.replace('bottom: "conv" top: "ip"', 'bottom: "hidden" top: "ip"')
    (job / "net.prototxt").write_text(text)
    made: list[Solver] = []

    def train(
        copies: bool,
        between: Callable[[Solver], object] = lambda solver: None,
        prepare: Callable[[Solver], object] = lambda solver: None,
        **fields: Any,
    ) -> Solver:
        param = parse_message(SOLVER, SolverParameter())
        for name, value in fields.items():
            setattr(param, name, value)
        torch.manual_seed(5)
        solver = Solver(param, log=Log(enabled=False), source="s", precision="bf16", fast=True)
        made.append(solver)
        solver.train_step = RecordedStep(solver.net, solver.optimizer, TapeRecorder(), precision="bf16", log=solver.log)
        if not copies:
            monkeypatch.setattr(copies_of(solver), "find", lambda parameter, dtype: None)
        prepare(solver)
        for steps in (5, 4, 2):
            solver.step(steps)
            between(solver)
        return solver

    yield train
    for solver in made:
        solver.close()


def copies_of(solver: Solver) -> RoundedCopies:
    assert solver.graphs is not None
    return solver.graphs.copies


@pytest.mark.parametrize("fields", [{}, {"iter_size": 2, "clip_gradients": 0.1}], ids=str)
def test_bits_of_rounding_in_each_pass(fields: dict[str, Any], run: Callable[..., Solver]) -> None:
    expected, actual = (run(copies, test_interval=100, display=0, snapshot=0, **fields) for copies in (False, True))
    assert_same_bits(weights(expected), weights(actual))
    graphs = actual.graphs
    assert graphs is not None
    assert graphs.given_up is None
    assert graphs.recordings == (3 if "iter_size" in fields else 2)
    params = actual.net.params
    wanted = [*params["conv"][:1], *params["conv2"][:1], *params["hidden"], *params["ip"]]
    assert {id(p) for p in graphs.copies.tensors} == {id(p) for p in wanted}
    for parameter, copy in graphs.copies.tensors.items():
        assert torch.equal(copy, parameter.detach().to(torch.bfloat16))


def test_nothing_is_rounded_while_only_the_solver_runs(
    run: Callable[..., Solver], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once at the start of each ``step()``, as others may have written before; no more."""
    counts: list[int] = []
    copy = torch._foreach_copy_

    def counted(copies: list[Tensor], parameters: list[Tensor]) -> None:
        counts.append(len(parameters))
        copy(copies, parameters)

    monkeypatch.setattr(torch, "_foreach_copy_", counted)
    run(True, test_interval=100, display=0, snapshot=0)
    # Made one by one at the first use; then all of them in the first of each step()'s iterations but the first.
    assert counts == [1] * 6 + [6] * 2


def write(solver: Solver) -> None:
    """Behind the counter's back."""
    solver.net.params["hidden"][0].data.mul_(1.5)


def write_in_the_open(solver: Solver) -> None:
    with torch.no_grad():
        solver.net.params["hidden"][0].mul_(1.5)


def write_to_other_memory(solver: Solver) -> None:
    solver.net.params["hidden"][0].data = solver.net.params["hidden"][0].data * 1.5


def copy_from_a_file(solver: Solver) -> None:
    solver.net.save("copy.caffemodel")
    other = Net("net.prototxt")
    with torch.no_grad():
        other.params["hidden"][0].fill_(0.01)
    other.save("other.caffemodel")
    other.close()
    solver.net.copy_from("other.caffemodel")


def load_a_state(solver: Solver) -> None:
    solver.net.load_state_dict({name: value * 1.5 for name, value in solver.net.state_dict().items()})


def go_back(solver: Solver) -> None:
    solver.restore("snap_iter_3.solverstate")


def share(solver: Solver) -> None:
    """Another net takes the parameters as its own, and writes to them."""
    other = Net("net.prototxt")
    layer = other.layers["hidden"]
    layer.weight = solver.net.params["hidden"][0]
    layer.weight.data.mul_(1.5)
    other.close()


@pytest.mark.parametrize(
    "between",
    [write, write_in_the_open, write_to_other_memory, copy_from_a_file, load_a_state, go_back, share],
)
def test_who_writes_between_two_steps_is_seen(between: Callable[[Solver], object], run: Callable[..., Solver]) -> None:
    expected, actual = (run(copies, between, snapshot=3) for copies in (False, True))
    assert_same_bits(weights(expected), weights(actual))


def callbacks(moment: str) -> Callable[[Solver], object]:
    return lambda solver: solver.add_callback(**{f"on_{moment}": lambda s: write(s) if s.iter in (4, 7) else None})


def asked(solver: Solver) -> None:
    def action() -> str:
        if solver.iter in (4, 7):
            write(solver)
        return "none"

    solver.set_action_function(action)


def in_a_test(solver: Solver) -> None:
    run_net = solver.run_net

    def writes(net: Net) -> Result:
        write(solver)
        return run_net(net)

    solver.run_net = writes


def frozen(solver: Solver) -> None:
    """No update writes its copy; a callback writes to it between passes and update."""
    solver.net.params["hidden"][0].requires_grad_(False)
    callbacks("gradients_ready")(solver)


@pytest.mark.parametrize(
    "prepare",
    [callbacks("start"), callbacks("gradients_ready"), callbacks("update"), asked, in_a_test, frozen],
    ids=["start", "gradients_ready", "update", "action", "test", "frozen"],
)
def test_who_writes_inside_of_step_is_seen(prepare: Callable[[Solver], object], run: Callable[..., Solver]) -> None:
    expected, actual = (run(copies, prepare=prepare, weight_decay=0.0) for copies in (False, True))
    assert_same_bits(weights(expected), weights(actual))


def test_weights_that_a_pass_normalizes_have_no_copy(job: Path, run: Callable[..., Solver]) -> None:
    """A layer that shares them makes their rows unit vectors behind the other's use."""
    text = (job / "net.prototxt").read_text()
    shared = 'param { name: "w" } inner_product_param {'
    text = text.replace('top: "hidden"\n  inner_product_param {', f'top: "hidden"\n  {shared}')
    text += 'layer { name: "unit" type: "InnerProduct" bottom: "conv2" top: "unit" ' + shared
    text += ' num_output: 8 normalize: true bias_term: false } }\nlayer { name: "s" type: "Silence" bottom: "unit" }\n'
    (job / "net.prototxt").write_text(text)
    expected, actual = (run(copies, iter_size=2, snapshot=0) for copies in (False, True))
    assert_same_bits(weights(expected), weights(actual))
    hidden = actual.net.params["hidden"]
    assert hidden[0] is actual.net.params["unit"][0]
    assert {id(p) for p in copies_of(actual).tensors} & {id(p) for p in hidden} == {id(hidden[1])}


def test_an_update_without_its_kernel_leaves_copies_that_are_rounded_again(run: Callable[..., Solver]) -> None:
    def unfused(solver: Solver) -> None:
        solver.optimizer.fused = False

    expected, actual = (run(copies, prepare=unfused) for copies in (False, True))
    assert_same_bits(weights(expected), weights(actual))
    assert np.isfinite(weights(actual)[0]).all()
