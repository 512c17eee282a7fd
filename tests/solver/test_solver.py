"""The training loop: order of events, tests, callbacks, several nets, refusals."""

import io
import itertools
from pathlib import Path

import pytest
import torch

from caffe_compat.errors import CaffeCompatError, NetError, SolverError
from caffe_compat.proto import caffe_pb2, parse_message
from caffe_compat.solver import Log, Solver
from tests.solver.conftest import NET, SOLVER, assert_same_bits, weights


def messages(stream: io.StringIO) -> list[str]:
    """The log lines without glog's prefix."""
    return [line.split("] ", 1)[1] for line in stream.getvalue().splitlines() if "] " in line]


def train(make_solver, **fields) -> tuple[Solver, list[str]]:
    stream = io.StringIO()
    solver = make_solver(log=Log(stream), **fields)
    solver.solve()
    return solver, messages(stream)


def test_order_of_events(make_solver):
    solver, lines = train(make_solver, max_iter=4, average_loss=1)
    assert solver.iter == 4
    start = lines.index("Solving tiny")
    kinds = [line.strip().split(" = ")[0].split(" (")[0] for line in lines[start:]]
    test = ["Test score #0: ", "Test score #1: ", "Test net output #0: accuracy", "Test net output #1: loss"]
    expected = [
        *["Solving tiny", "Learning Rate Policy: step", "Iteration 0, Testing net", *test],
        *["Iteration 0", "Iteration 0,  loss", "Train net output #0: loss", "Iteration 0, lr"],
        *["Iteration 2", "Iteration 2,  loss", "Train net output #0: loss", "Iteration 2, lr"],
        "Snapshotting to binary proto file snap_iter_3.caffemodel",
        "Snapshotting solver state to binary proto file snap_iter_3.solverstate",
        "Snapshotting to binary proto file snap_iter_4.caffemodel",
        "Snapshotting solver state to binary proto file snap_iter_4.solverstate",
        *["Iteration 4, loss", "Iteration 4, Testing net", *test, "Optimization Done."],
    ]
    assert [kind if not kind.startswith("Test score") else kind[:15] for kind in kinds] == expected


def test_no_snapshot_after_training_when_told(make_solver):
    train(make_solver, max_iter=4, snapshot_after_train=False)
    assert not Path("snap_iter_4.caffemodel").exists()


def test_test_initialization_and_compute_loss(make_solver):
    _, lines = train(make_solver, max_iter=4, test_initialization=False, test_compute_loss=True)
    assert "Iteration 0, Testing net (#0)" not in lines
    after = lines[lines.index("Iteration 4, Testing net (#0)") :]
    assert any(line.startswith("Test loss: ") for line in after)


def test_average_loss_is_a_mean_over_a_window(make_solver):
    losses = []
    solver = make_solver(display=0, test_interval=4, average_loss=3)
    solver.add_callback(on_gradients_ready=lambda s: losses.append(float(s.train_outputs()["loss"])))
    solver.step(2)
    assert solver.smoothed.value() == pytest.approx(sum(losses) / 2)
    solver.step(5)  # a new call starts a new window
    assert solver.smoothed.value() == pytest.approx(sum(losses[-3:]) / 3)


def test_iter_size_averages_gradients_and_loss(make_solver):
    solver = make_solver(iter_size=3, display=0)
    seen = {}

    def look(s: Solver) -> None:
        seen["sum"] = s.net.params["ip"][0].grad.clone()

    solver.add_callback(on_gradients_ready=look)
    solver.optimizer.keep_update = True
    before = solver.net.params["ip"][0].detach().clone()
    solver.step(1)
    update = solver.net.params["ip"][0].grad
    assert torch.allclose(update, solver.param.base_lr * (seen["sum"] / 3 + 0.001 * before), atol=1e-7)


def test_callbacks_come_in_order(make_solver):
    order = []
    solver = make_solver(display=0)
    solver.add_callback(
        on_start=lambda s: order.append(("start", s.iter)),
        on_gradients_ready=lambda s: order.append(("ready", s.iter)),
        on_update=lambda s: order.append(("update", s.iter)),
    )
    solver.step(2)
    assert order == [("start", 0), ("ready", 0), ("update", 1), ("start", 1), ("ready", 1), ("update", 2)]


def test_test_nets_share_parameters(make_solver):
    solver = make_solver()
    for name in ("conv", "ip"):
        for ours, theirs in zip(solver.net.params[name], solver.test_nets[0].params[name], strict=True):
            assert ours is theirs


def test_testing_changes_no_training(make_solver):
    seldom = make_solver(test_interval=100, test_initialization=False)
    seldom.step(6)
    often = make_solver(test_interval=1)
    often.step(6)
    assert_same_bits(weights(seldom), weights(often))
    assert [score.name for score in often.test(0)] == ["accuracy", "loss"]


def test_stop_and_snapshot_requests(make_solver):
    answers = iter(["none", "snapshot", "none", "stop"])
    solver = make_solver(snapshot=0, test_interval=0, test_iter=[], max_iter=100)
    solver.set_action_function(lambda: next(answers))
    solver.solve()
    assert solver.iter == 4
    assert Path("snap_iter_2.solverstate").exists()
    assert Path("snap_iter_4.solverstate").exists()  # snapshot_after_train


def test_stop_while_testing(make_solver):
    stream = io.StringIO()
    solver = make_solver(log=Log(stream), max_iter=100)
    solver.set_action_function(itertools.chain(["none", "stop"], itertools.repeat("none")).__next__)
    solver.solve()
    assert messages(stream)[-2:] == ["Test interrupted.", "Optimization stopped early."]
    assert solver.iter == 0


def test_debug_info_makes_the_same_gradients(make_solver):
    stream = io.StringIO()
    plain = make_solver(display=1, test_interval=0, test_iter=[])
    plain.step(2)
    debug = make_solver(display=1, debug_info=True, test_interval=0, test_iter=[], log=Log(stream))
    debug.step(2)
    lines = messages(stream)
    assert any(line.startswith("    [Forward] Layer conv, top blob conv data: ") for line in lines)
    assert any(line.startswith("    [Forward] Layer conv, param blob 1 data: ") for line in lines)
    assert any(line.startswith("    [Backward] Layer ip, bottom blob conv diff: ") for line in lines)
    assert any(line.startswith("    [Backward] Layer ip, param blob 0 diff: ") for line in lines)
    assert sum("[Backward] All net params (data, diff): L1 norm = (" in line for line in lines) == 2
    for a, b in zip(weights(plain), weights(debug), strict=True):
        assert a == pytest.approx(b, rel=1e-5, abs=1e-6)


def test_snapshot_diff_holds_the_update(make_solver):
    solver = make_solver(snapshot_diff=True, display=0, test_interval=0, test_iter=[], snapshot=0)
    solver.step(1)
    solver.snapshot()
    saved = caffe_pb2.NetParameter.FromString(Path("snap_iter_1.caffemodel").read_bytes())
    blob = next(layer for layer in saved.layer if layer.name == "ip").blobs[0]
    history = solver.optimizer.history(solver.net.params["ip"][0])
    assert list(blob.diff) == history.flatten().tolist()


@pytest.mark.parametrize("form", ["net_param", "train_net+test_net", "train_net_param+test_net_param"])
def test_nets_in_every_form(form, make_solver):
    solver = parse_message(SOLVER, caffe_pb2.SolverParameter())
    net = parse_message(NET, caffe_pb2.NetParameter())
    solver.ClearField("net")
    for field in form.split("+"):
        if field == "test_net":
            solver.test_net.append("net.prototxt")
        elif field == "test_net_param":
            solver.test_net_param.append(net)
        elif field == "train_net":
            solver.train_net = "net.prototxt"
        else:
            getattr(solver, field).CopyFrom(net)
    other = Solver(solver, log=Log(enabled=False))
    other.step(2)
    plain = make_solver()  # starts the random stream anew
    plain.step(2)
    assert_same_bits(weights(plain), weights(other))
    other.close()


def test_train_and_test_states(job):
    """Stages of solver states join those of the file and decide which layers take part."""
    extra = 'layer { name: "extra" type: "Power" bottom: "ip" top: "extra" include { stage: "%s" } }\n'
    Path("net.prototxt").write_text(NET + extra % "deep" + extra.replace("extra", "more") % "wide")
    param = parse_message(SOLVER, caffe_pb2.SolverParameter())
    param.train_state.stage.append("deep")
    param.test_iter.append(1)
    param.test_state.add()
    param.test_state.add().stage.append("wide")
    solver = Solver(param, log=Log(enabled=False))
    assert "extra" in solver.net.layers
    assert "more" not in solver.net.layers
    assert [set(net.layers) & {"extra", "more"} for net in solver.test_nets] == [set(), {"more"}]
    solver.close()


def test_weights_field(make_solver):
    first = make_solver(random_seed=1)
    first.net.save("start.caffemodel")
    second = make_solver(random_seed=2, weights=["start.caffemodel"])
    assert_same_bits(weights(first), weights(second))


def test_frozen_bottom_layers_get_no_gradient(job):
    Path("net.prototxt").write_text(NET.replace("lr_mult: 1 }", "lr_mult: 0 }").replace("lr_mult: 2", "lr_mult: 0"))
    solver = Solver(parse_message(SOLVER, caffe_pb2.SolverParameter()), log=Log(enabled=False))
    before = [p.detach().clone() for p in solver.net.params["conv"]]
    solver.step(3)
    for ours, old in zip(solver.net.params["conv"], before, strict=True):
        assert not ours.requires_grad
        assert torch.equal(ours, old)
    solver.close()


def test_two_rate_groups_in_caffes_order_of_histories(make_solver):
    solver = make_solver()
    assert [(g["lr_mult"], g["decay_mult"]) for g in solver.optimizer.param_groups] == [(1.0, 1.0), (2.0, 0.0)]
    shapes = [tuple(h.shape) for h in solver.optimizer.histories(p.parameter for p in solver.net.learnable)]
    assert shapes == [tuple(p.parameter.shape) for p in solver.net.learnable]


REFUSALS = [
    ("net: ", "xnet: ", CaffeCompatError, "xnet"),
    ('net: "net.prototxt"', "", SolverError, "no train net is given; set exactly one of net, net_param"),
    ("net: ", 'train_net: "a" net: ', SolverError, "net and train_net are given"),
    ('"net.prototxt"', '"gone.prototxt"', CaffeCompatError, "gone.prototxt"),
    ('"step"', '"cosine"', SolverError, 'lr_policy is "cosine"'),
    ("stepsize: 6", "", SolverError, "stepsize is not set"),
    ("max_iter: 12", "max_iter: -1", SolverError, "max_iter is -1; expected at least 0"),
    ("max_iter: 12", "iter_size: 0", SolverError, "iter_size is 0"),
    ("average_loss: 3", "average_loss: 0", SolverError, "average_loss is 0"),
    ("test_iter: 2", "test_iter: -2", SolverError, r"test_iter .* is -2"),
    ("test_interval: 4", "", SolverError, "test_interval is 0 but there are test nets"),
    ("test_iter: 2", "test_iter: 2 test_state { } test_state { }", SolverError, "test_state is given 2 times for 1"),
    (
        "test_iter: 2",
        'test_net: "net.prototxt" test_net: "net.prototxt" test_iter: 1',
        SolverError,
        "test_iter is given",
    ),
    (
        'type: "SGD"',
        'type: "Momentum"',
        SolverError,
        'type is "Momentum"; expected one of AdaDelta, AdaGrad, Adam, Nesterov, RMSProp, SGD',
    ),
    ('type: "SGD"', 'type: "AdaGrad"', SolverError, "momentum is 0.9; AdaGrad takes no momentum"),
    ('type: "SGD" base_lr: 0.05 momentum: 0.9', 'type: "RMSProp" rms_decay: 1.5', SolverError, "rms_decay is 1.5"),
    ('type: "SGD"', 'type: "SGD" regularization_type: "L3"', SolverError, 'regularization_type is "L3"'),
    ('"snap"', '"nowhere/snap"', SolverError, 'cannot write to snapshot_prefix "nowhere/snap"'),
]


@pytest.mark.parametrize(("old", "new", "error", "message"), REFUSALS)
def test_refusals_name_file_and_field(old, new, error, message, job):
    assert old in SOLVER
    Path("solver.prototxt").write_text(SOLVER.replace(old, new))
    with pytest.raises(error, match=message) as caught:
        Solver("solver.prototxt", log=Log(enabled=False))
    assert "\n" not in str(caught.value)
    assert "prototxt" in str(caught.value)


def test_test_net_of_another_shape_is_refused(job):
    Path("other.prototxt").write_text(NET.replace("num_output: 4", "num_output: 5"))
    text = SOLVER.replace('net: "net.prototxt"', 'train_net: "net.prototxt" test_net: "other.prototxt"')
    Path("solver.prototxt").write_text(text)
    with pytest.raises(NetError, match=r'other.prototxt:\d+: layer "conv" .*param 0: its shape is \(5, 3, 3, 3\)'):
        Solver("solver.prototxt", log=Log(enabled=False))


def test_gpu_mode_without_a_device_is_refused(job, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    Path("solver.prototxt").write_text(SOLVER.replace("solver_mode: CPU", "solver_mode: GPU"))
    with pytest.raises(SolverError, match="solver_mode is GPU"):
        Solver("solver.prototxt", log=Log(enabled=False))
