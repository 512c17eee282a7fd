"""The recorded training step: everything around the recording on the CPU, the recording itself where CUDA is."""

import io
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch

from caffe_compat.layers.base import Layer, Shape
from caffe_compat.layers.registry import _types, register
from caffe_compat.net import Net
from caffe_compat.ops.rounded import RoundedCopies
from caffe_compat.proto import parse_message, parse_net
from caffe_compat.proto.caffe_pb2 import SolverParameter
from caffe_compat.solver import SGD, Log, Solver
from caffe_compat.solver.graphs import CudaRecorder, EagerRecorder, GraphedStep, obstacle
from caffe_compat.solver.train_step import RecordedStep
from tests.solver.conftest import SOLVER, MakeSolver, assert_same_bits, weights
from tests.solver.tape_recorder import TapeRecorder

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
#: float32 after 12 updates: cuDNN may add in another order in a recording than before it
GRAPH_ROUNDING = 1e-5


def with_recorder(solver: Solver, recorder: EagerRecorder | None = None) -> GraphedStep:
    recorder = recorder or EagerRecorder()
    step = RecordedStep(solver.net, solver.optimizer, recorder, precision=solver.precision, log=solver.log)
    solver.train_step = step
    assert solver.graphs is step.graphs
    return step.graphs


@pytest.mark.parametrize("recorder", [EagerRecorder, TapeRecorder])
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"iter_size": 3},
        {"clip_gradients": 0.1},
        {"type": "Adam", "momentum2": 0.99},
        {"snapshot_diff": True},
        {"iter_size": 2, "clip_gradients": 0.1, "test_interval": 1, "display": 1},
        {"clip_gradients": 0.1, "test_interval": 3, "display": 3},
    ],
)
def test_recorded_training_has_the_bits_of_plain_training(
    fields: dict[str, Any], recorder: type[EagerRecorder], make_solver: MakeSolver
) -> None:
    plain = make_solver(**fields)
    plain.solve()
    recorded = make_solver(**fields)
    graphs = with_recorder(recorded, recorder())
    recorded.solve()
    assert graphs.given_up is None
    assert graphs.recordings == (3 if "iter_size" in fields else 2)
    assert_same_bits(weights(plain), weights(recorded))
    assert plain.smoothed.get_state() == recorded.smoothed.get_state()


def test_an_update_without_kernel_is_not_recorded(make_solver: MakeSolver) -> None:
    """It takes its rates, which change at iteration 6, from the host."""
    results = []
    for record in (False, True):
        solver = make_solver()
        solver.optimizer.fused = False
        graphs = with_recorder(solver, TapeRecorder()) if record else None
        solver.solve()
        results.append(weights(solver))
    assert graphs is not None
    assert graphs.given_up is None
    assert graphs.recordings == 1  # the pass
    assert_same_bits(*results)


def test_resuming_records_again_and_ends_the_same(make_solver: MakeSolver) -> None:
    whole = make_solver()
    whole.solve()
    stream = io.StringIO()
    solver = make_solver(log=Log(stream))
    graphs = with_recorder(solver)
    solver.step(9)
    solver.restore("snap_iter_6.solverstate")  # histories come to lie elsewhere
    solver.step(6)
    assert "settings have changed: recording the training step again" in stream.getvalue()
    assert graphs.given_up is None
    assert_same_bits(weights(whole), weights(solver))


class Refusing(EagerRecorder):
    """Refuses from recording ``number`` on, as CUDA refuses what a graph cannot hold."""

    def __init__(self, number: int) -> None:
        self.number = number

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        self.number -= 1
        if self.number < 0:
            raise RuntimeError("operation not permitted when stream is capturing\nmore lines")
        return super().record(work)


@pytest.mark.parametrize("fails", [False, True])
def test_the_recorder_puts_pytorch_back(fails: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ``torch.cuda.graph`` leaves undone, in calls; test_a_recording_that_fails... has the effects on a GPU."""
    cuda, calls = MagicMock(), list[str]()
    for name in ("Stream", "graph_pool_handle", "synchronize", "current_stream", "CUDAGraph", "graph", "device"):
        monkeypatch.setattr(torch.cuda, name, getattr(cuda, name))
    current, generator = cuda.current_stream.return_value, MagicMock()
    current.device_index = 0
    current.wait_stream.side_effect = lambda stream: calls.append("wait for the recording's stream")
    generator.graphsafe_set_state.side_effect = lambda state: calls.append("put the generator back")
    cuda.graph.return_value.__enter__.side_effect = lambda: calls.append("capture")
    cuda.graph.return_value.__exit__.side_effect = lambda *error: calls.append("end")
    cuda.graph.return_value.__exit__.return_value = cuda.device.return_value.__exit__.return_value = False
    monkeypatch.setattr(torch.cuda, "default_generators", (generator,))
    monkeypatch.setattr(torch.cuda, "set_stream", lambda stream: calls.append("put the stream back"))
    end_pool = "torch._C._cuda_endAllocateToPool"
    monkeypatch.setattr(end_pool, lambda *pool: calls.append("end the pool"), raising=False)

    def work() -> None:
        calls.append("work")
        if fails:
            raise RuntimeError("operation not permitted when stream is capturing")

    recorder = CudaRecorder(torch.device("cuda"))
    if fails:
        with pytest.raises(RuntimeError, match="not permitted"):
            recorder.record(work)
        assert calls[-3:] == ["put the stream back", "put the generator back", "end the pool"]
    else:
        recorder.record(work)
        assert calls == ["capture", "work", "end", "wait for the recording's stream"]


@pytest.mark.parametrize("number", [0, 1, 2])
def test_what_cannot_be_recorded_runs_as_it_is_and_is_told_once(number: int, make_solver: MakeSolver) -> None:
    plain = make_solver(iter_size=2)
    plain.solve()
    stream = io.StringIO()
    solver = make_solver(log=Log(stream), iter_size=2)
    graphs = with_recorder(solver, Refusing(number))
    solver.solve()
    assert graphs.given_up is not None
    assert "cannot be recorded: operation not permitted" in graphs.given_up
    assert stream.getvalue().count("No CUDA graphs from here on") == 1
    assert_same_bits(weights(plain), weights(solver))


def small_net() -> Net:
    return Net(
        parse_net(
            'layer { name: "in" type: "Input" top: "x" top: "t" '
            "input_param { shape { dim: 4 dim: 3 } shape { dim: 4 } } }"
            'layer { name: "fc" type: "InnerProduct" bottom: "x" top: "fc" inner_product_param { num_output: 2 '
            'weight_filler { type: "xavier" } } }'
            'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "t" top: "loss" }'
        )
    )


def make_optimizer(net: Net) -> SGD:
    return SGD([{"params": list(net.parameters())}], lr=0.1, momentum=0.9)


def make_step(net: Net, optimizer: SGD, say: Callable[[str], None] = lambda line: None) -> GraphedStep:
    return GraphedStep(net, optimizer, lambda b: net.forward_with_loss(**b), EagerRecorder(), say)


def iterate(step: GraphedStep, rows: int) -> float:
    step.clear_gradients()
    _, loss = step.forward_backward({"x": torch.ones(rows, 3), "t": torch.zeros(rows)})
    step.update()
    return float(loss)


def test_another_batch_size_is_recorded_anew_and_too_many_give_up() -> None:
    lines: list[str] = []
    net, plain_net = small_net(), small_net()
    step = make_step(net, make_optimizer(net), lines.append)
    plain = make_step(plain_net, make_optimizer(plain_net))
    plain.given_up = "for comparison"
    plain_net.load_state_dict(net.state_dict())
    for turn in range(10):
        for _ in range(8):
            assert iterate(step, rows=2 + turn % 2) == iterate(plain, rows=2 + turn % 2)
    assert step.recordings == GraphedStep.MOST_RECORDINGS
    assert step.given_up is not None
    assert "changed again" in step.given_up
    assert sum("shape has changed" in line for line in lines) == 4
    assert sum("No CUDA graphs" in line for line in lines) == 1


def test_foreign_gradients_are_used() -> None:
    """A callback may replace gradients between the passes and the update."""
    net = small_net()
    optimizer = make_optimizer(net)
    step = make_step(net, optimizer)
    for _ in range(8):
        iterate(step, 4)
    bias = net.layers["fc"].blobs[1]
    before = bias.detach().clone()
    step.clear_gradients()
    step.forward_backward({"x": torch.ones(4, 3), "t": torch.zeros(4)})
    velocity = optimizer.history(bias).clone()
    bias.grad = torch.full((2,), 5.0)
    step.update()
    torch.testing.assert_close(bias.detach(), before - (0.9 * velocity + 0.5))


def test_settings_that_change_are_recorded_anew() -> None:
    lines: list[str] = []
    net = small_net()
    optimizer = make_optimizer(net)
    step = make_step(net, optimizer, lines.append)
    for _ in range(8):
        iterate(step, 4)
    optimizer.param_groups[0]["lr"] = 0.01  # read from the device: nothing to do
    iterate(step, 4)
    assert not lines
    optimizer.param_groups[0]["momentum"] = 0.5
    iterate(step, 4)
    assert "settings have changed" in lines[0]


class Odd(Layer):
    def infer_shapes(self, bottom: Shape) -> list[Shape]:
        return [bottom]

    def forward(self, bottom: torch.Tensor) -> torch.Tensor:
        return bottom * 2


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        ('name: "p" type: "Filter" bottom: "x" bottom: "s" top: "y"', "sizes depend on the data"),
        ('name: "odd" type: "Odd" bottom: "x" top: "y"', "graph_safe = True"),
        ('name: "r" type: "ReLU" bottom: "x" top: "y"', None),
        # a name that repeats hides no layer
        (
            'name: "r" type: "Odd" bottom: "x" top: "y" } layer { name: "r" type: "ReLU" bottom: "y" top: "z"',
            "graph_safe",
        ),
    ],
)
def test_obstacles(layer: str, words: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if "Odd" in layer:
        register("Odd")(Odd)
    try:
        net = Net(
            parse_net(
                'layer { name: "in" type: "Input" top: "x" top: "s" input_param { shape { dim: 4 dim: 3 } '
                "shape { dim: 4 dim: 1 } } }"
                'layer { name: "fc" type: "InnerProduct" bottom: "x" top: "fc" inner_product_param { num_output: 2 } }'
                f"layer {{ {layer} }}"
            )
        )
        assert obstacle(net) == "the net is on cpu; CUDA graphs need a CUDA device"
        monkeypatch.setattr(Net, "device", torch.device("cuda"))
        assert obstacle(net, processes=2) == "several devices train together"
        assert obstacle(net, debug_info=True) == "debug_info is set"
        found = obstacle(net)
        assert (found is None) is (words is None)
        assert found is None or words is None or words in found
        monkeypatch.setattr(Odd, "graph_safe", True, raising=False)
        assert "Odd" not in layer or obstacle(net) is None
    finally:
        _types.pop("Odd", None)


def cuda_run(fast: bool, precision: str = "fp32", **fields: Any) -> tuple[Solver, list[np.ndarray]]:
    torch.manual_seed(3)
    param = parse_message(SOLVER, SolverParameter())
    param.solver_mode = param.GPU
    for name, value in fields.items():
        setattr(param, name, value)
    solver = Solver(param, log=Log(enabled=False), source="solver.prototxt", fast=fast, precision=precision)
    solver.solve()
    solver.close()
    return solver, weights(solver)


@needs_cuda
@pytest.mark.parametrize("fields", [{}, {"iter_size": 2}, {"clip_gradients": 0.1}, {"type": "Adam", "momentum2": 0.99}])
def test_cuda_graphs_train_as_eager_steps_do(fields: dict[str, Any], job: Path) -> None:
    """With dropout: a replayed graph must draw new masks, and the same ones as eager passes."""
    _, eager = cuda_run(False, **fields)
    solver, recorded = cuda_run(True, **fields)
    assert solver.graphs is not None
    assert solver.graphs.given_up is None
    assert solver.graphs.recordings == (3 if "iter_size" in fields else 2)
    for a, b in zip(eager, recorded, strict=True):
        torch.testing.assert_close(torch.from_numpy(a), torch.from_numpy(b), rtol=GRAPH_ROUNDING, atol=GRAPH_ROUNDING)


@needs_cuda
def test_cuda_graphs_in_bf16_read_the_copies_that_the_update_writes(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bits of rounding in each pass; how they are kept right is in test_bf16_copies.py."""
    solver, copied = cuda_run(True, "bf16")
    assert solver.graphs is not None
    assert solver.graphs.recordings == 2
    assert solver.graphs.copies.tensors
    for parameter, copy in solver.graphs.copies.tensors.items():
        assert torch.equal(copy, parameter.detach().to(torch.bfloat16))
    monkeypatch.setattr(RoundedCopies, "find", lambda self, parameter, dtype: None)
    assert_same_bits(cuda_run(True, "bf16")[1], copied)


@needs_cuda
def test_a_recording_that_fails_leaves_the_device_as_it_was() -> None:
    """The stream in force, and the random numbers to come: dropout runs on as if nobody had tried."""
    x = torch.ones(1000, device="cuda")

    def draws(fail: bool) -> list[torch.Tensor]:
        torch.manual_seed(5)
        recorder = CudaRecorder(torch.device("cuda", torch.cuda.current_device()))
        first = torch.nn.functional.dropout(x)
        if fail:
            with pytest.raises(RuntimeError):
                recorder.record(lambda: print(torch.nn.functional.dropout(x).sum().item()))
        return [first, torch.nn.functional.dropout(x)]

    stream = torch.cuda.current_stream()
    for a, b in zip(draws(False), draws(True), strict=True):
        assert torch.equal(a, b)
    assert torch.cuda.current_stream() == stream


@needs_cuda
def test_a_replay_on_a_busy_device_draws_what_eager_work_draws() -> None:
    """PyTorch's reset of the generator, on the recording's stream, must not come behind the replay's own setting."""
    x = torch.ones(1000, device="cuda")
    for turn in range(5):
        torch.manual_seed(turn)
        torch.nn.functional.dropout(x)
        expected = torch.nn.functional.dropout(x)
        torch.manual_seed(turn)
        torch.nn.functional.dropout(x)
        recorder, top = CudaRecorder(torch.device("cuda", torch.cuda.current_device())), torch.empty_like(x)
        replay = recorder.record(partial(_dropout_to, top, x))
        replay()
        assert torch.equal(top, expected)


def _dropout_to(top: torch.Tensor, x: torch.Tensor) -> None:
    top.copy_(torch.nn.functional.dropout(x))


@needs_cuda
def test_cuda_graphs_resume(job: Path) -> None:
    whole = cuda_run(True, max_iter=12)[1]
    torch.manual_seed(99)
    param = parse_message(SOLVER, SolverParameter())
    param.solver_mode = param.GPU
    again = Solver(param, log=Log(enabled=False), source="solver.prototxt", fast=True)
    again.solve("snap_iter_9.solverstate")
    again.close()
    for a, b in zip(whole, weights(again), strict=True):
        torch.testing.assert_close(torch.from_numpy(a), torch.from_numpy(b), rtol=GRAPH_ROUNDING, atol=GRAPH_ROUNDING)


@needs_cuda
def test_nothing_in_the_cuda_loop_waits_for_the_device(job: Path) -> None:
    """PyTorch raises on calls that wait; displays, tests and snapshots may, the steps between must not."""
    param = parse_message(SOLVER, SolverParameter())
    param.solver_mode = param.GPU
    param.display, param.test_interval, param.snapshot, param.clip_gradients = 0, 0, 0, 0.5
    del param.test_iter[:]
    for fast in (False, True):
        solver = Solver(param, log=Log(enabled=False), source="solver.prototxt", fast=fast)
        solver.step(12)
        torch.cuda.set_sync_debug_mode("error")
        try:
            solver.step(5)
        finally:
            torch.cuda.set_sync_debug_mode("default")
            solver.close()
