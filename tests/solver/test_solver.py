"""The training loop: order of events, tests, callbacks, several nets, refusals."""

from pathlib import Path

import pytest
import torch

from caffe_compat.errors import NetError
from caffe_compat.proto import caffe_pb2
from caffe_compat.solver import Log, Solver
from tests.solver.conftest import NET, MakeSolver, train


def test_order_of_events(make_solver: MakeSolver) -> None:
    solver, lines = train(make_solver, max_iter=4, average_loss=1)
    assert solver.iter == 4
    start = lines.index("Solving tiny")
    kinds = [line.strip().split(" = ")[0].split(" (")[0] for line in lines[start:]]
    test = ["Test net output #0: accuracy", "Test net output #1: loss"]
    expected = [
        *["Solving tiny", "Learning Rate Policy: step", "Iteration 0, Testing net", *test],
        *["Iteration 0", "Train net output #0: loss", "Iteration 0, lr"],
        *["Iteration 2", "Train net output #0: loss", "Iteration 2, lr"],
        "Snapshotting to binary proto file snap_iter_3.caffemodel",
        "Snapshotting solver state to binary proto file snap_iter_3.solverstate",
        "Snapshotting to binary proto file snap_iter_4.caffemodel",
        "Snapshotting solver state to binary proto file snap_iter_4.solverstate",
        *["Iteration 4, loss", "Iteration 4, Testing net", *test, "Optimization Done."],
    ]
    assert kinds == expected


def test_no_snapshot_after_training_when_told(make_solver: MakeSolver) -> None:
    train(make_solver, max_iter=4, snapshot_after_train=False)
    assert not Path("snap_iter_4.caffemodel").exists()


def test_iter_size_averages_gradients_and_loss(make_solver: MakeSolver) -> None:
    solver = make_solver(iter_size=3, display=0)
    seen = {}

    def look(s: Solver) -> None:
        gradient = s.net.params["ip"][0].grad
        assert gradient is not None
        seen["sum"] = gradient.clone()

    solver.add_callback(on_gradients_ready=look)
    solver.optimizer.keep_update = True
    before = solver.net.params["ip"][0].detach().clone()
    solver.step(1)
    update = solver.net.params["ip"][0].grad
    assert update is not None
    assert torch.allclose(update, solver.param.base_lr * (seen["sum"] / 3 + 0.001 * before), atol=1e-7)


def test_callbacks_come_in_order(make_solver: MakeSolver) -> None:
    order = []
    solver = make_solver(display=0)
    solver.add_callback(
        on_start=lambda s: order.append(("start", s.iter)),
        on_gradients_ready=lambda s: order.append(("ready", s.iter)),
        on_update=lambda s: order.append(("update", s.iter)),
    )
    solver.step(2)
    assert order == [("start", 0), ("ready", 0), ("update", 1), ("start", 1), ("ready", 1), ("update", 2)]


def test_snapshot_diff_holds_the_update(make_solver: MakeSolver) -> None:
    solver = make_solver(snapshot_diff=True, display=0, test_interval=0, test_iter=[], snapshot=0)
    solver.step(1)
    solver.snapshot()
    saved = caffe_pb2.NetParameter.FromString(Path("snap_iter_1.caffemodel").read_bytes())
    blob = next(layer for layer in saved.layer if layer.name == "ip").blobs[0]
    history = solver.optimizer.history(solver.net.params["ip"][0])
    assert list(blob.diff) == history.flatten().tolist()


@pytest.mark.usefixtures("job")
def test_all_losses_of_one_name_are_widened_in_bf16() -> None:
    second = 'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "again" }\n'
    Path("net.prototxt").write_text(NET + second)
    solver = Solver("solver.prototxt", log=Log(enabled=False), precision="bf16")
    losses = [step.layer for step in solver.net.steps if step.layer.is_loss]
    assert [layer.has_hooks() for layer in losses] == [True, True]
    solver.close()


def test_no_memory_for_a_backward_pass_names_the_largest_blob(
    make_solver: MakeSolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total of")

    solver = make_solver()
    monkeypatch.setattr(torch.Tensor, "backward", fail)
    line = (
        r'layer "conv" \(Convolution\): no memory for a pass forward and backward; the largest blob is top "conv" of '
        r"shape \(4, 4, 4, 4\) \(2.50 GiB\); make batches or layers smaller$"
    )
    with pytest.raises(NetError, match=line):
        solver.step(1)
