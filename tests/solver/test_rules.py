"""Update rules against slow scalar formulas, and each step of the update's order."""

import math

import numpy as np
import pytest
import torch

from caffe_compat import Rule, register_rule
from caffe_compat.errors import SolverError
from caffe_compat.solver import RULES as REGISTERED
from caffe_compat.solver import SGD, AdaDelta, AdaGrad, Adam, Nesterov, RMSProp, Setting
from tests.solver.conftest import assert_same_bits, weights

ROUNDING = 1e-12  # float64, ten updates
FLOAT32_ROUNDING = 2e-5  # three updates; AdaGrad's and Adam's first ones divide small numbers by small ones


def scalar_sgd(g, h, t, lr):
    h[0] = 0.9 * h[0] + lr * g
    return h[0]


def scalar_nesterov(g, h, t, lr):
    before = h[0]
    h[0] = 0.9 * h[0] + lr * g
    return 1.9 * h[0] - 0.9 * before


def scalar_adagrad(g, h, t, lr):
    h[0] += g * g
    return lr * g / (math.sqrt(h[0]) + 1e-4)


def scalar_rmsprop(g, h, t, lr):
    h[0] = 0.95 * h[0] + 0.05 * g * g
    return lr * g / (math.sqrt(h[0]) + 1e-4)


def scalar_adadelta(g, h, t, lr):
    h[0] = 0.9 * h[0] + 0.1 * g * g
    u = g * math.sqrt((h[1] + 1e-4) / (h[0] + 1e-4))
    h[1] = 0.9 * h[1] + 0.1 * u * u
    return lr * u


def scalar_adam(g, h, t, lr):
    h[0] = 0.9 * h[0] + 0.1 * g
    h[1] = 0.99 * h[1] + 0.01 * g * g
    correction = math.sqrt(1 - 0.99**t) / (1 - 0.9**t)
    return lr * correction * h[0] / (math.sqrt(h[1]) + 1e-4)


RULES = [
    (SGD, {"momentum": 0.9}, scalar_sgd),
    (Nesterov, {"momentum": 0.9}, scalar_nesterov),
    (AdaGrad, {"delta": 1e-4}, scalar_adagrad),
    (RMSProp, {"rms_decay": 0.95, "delta": 1e-4}, scalar_rmsprop),
    (AdaDelta, {"momentum": 0.9, "delta": 1e-4}, scalar_adadelta),
    (Adam, {"momentum": 0.9, "momentum2": 0.99, "delta": 1e-4}, scalar_adam),
]

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")),
]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("regularization", ["L2", "L1"])
@pytest.mark.parametrize(("rule", "settings", "scalar"), RULES)
def test_ten_updates(rule, settings, scalar, regularization, fused, device):
    """Clipping, iter_size, decay and both multipliers, on two groups; the learning rate changes on the way."""
    torch.manual_seed(0)
    params = [torch.nn.Parameter(torch.randn(n, dtype=torch.float64, device=device)) for n in (3, 2, 4)]
    mults = [(1.0, 1.0), (2.0, 0.0), (1.0, 1.0)]
    groups = [
        {"params": [params[0], params[2]], "lr_mult": 1.0, "decay_mult": 1.0},
        {"params": [params[1]], "lr_mult": 2.0, "decay_mult": 0.0},
    ]
    optimizer = rule(
        groups,
        lr=0.1,
        weight_decay=0.02,
        regularization_type=regularization,
        clip_gradients=1.5,
        iter_size=2,
        **settings,
    )
    optimizer.fused = fused
    expected = [p.detach().tolist() for p in params]
    histories = [[[0.0, 0.0] for _ in values] for values in expected]
    for t in range(1, 11):
        lr = 0.1 if t < 6 else 0.03
        grads = [torch.randn_like(p) * t / 5 for p in params]
        norm = math.sqrt(sum(float(g.square().sum()) for g in grads))
        scale = min(1.0, 1.5 / norm) / 2
        for p, g in zip(params, grads, strict=True):
            p.grad = g.clone()
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.step()
        for k, (lr_mult, decay_mult) in enumerate(mults):
            for i, w in enumerate(expected[k]):
                pull = w if regularization == "L2" else math.copysign(1.0, w)
                g = float(grads[k][i]) * scale + 0.02 * decay_mult * pull
                expected[k][i] = w - scalar(g, histories[k][i], t, lr * lr_mult)
    for p, values in zip(params, expected, strict=True):
        assert p.tolist() == pytest.approx(values, rel=ROUNDING, abs=ROUNDING)
    stored = optimizer.histories(params)
    assert len(stored) == 3 * rule.history_count
    for k in range(rule.history_count):  # the first history of all parameters comes before the second
        for p in range(3):
            wanted = [h[k] for h in histories[p]]
            assert stored[3 * k + p].tolist() == pytest.approx(wanted, rel=ROUNDING, abs=ROUNDING)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("rule", "settings", "scalar"), RULES)
def test_fused_equals_plain_on_many_and_large_tensors(rule, settings, scalar, device):
    """More tensors than a launch takes, sizes of 0, 1 and more than a grid's threads, other memory layouts."""
    sizes = [(0,), (1,), (3, 5), (70_001,), (2, 3, 4, 5), *([(7,)] * 40)]
    torch.manual_seed(1)
    results = []
    start = [torch.randn(size, device=device) for size in sizes]
    start[4] = start[4].to(memory_format=torch.channels_last)
    steps = [[torch.randn(size, device=device) for size in sizes] for _ in range(3)]
    for fused in (True, False):
        params = [torch.nn.Parameter(value.clone()) for value in start]
        optimizer = rule(params, lr=0.1, weight_decay=0.01, clip_gradients=2.0, iter_size=2, **settings)
        optimizer.fused, optimizer.keep_update = fused, True
        for grads in steps:
            for p, g in zip(params, grads, strict=True):
                p.grad = g.clone()
            optimizer.step()
        results.append([*params, *(p.grad for p in params), *optimizer.histories(params)])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=FLOAT32_ROUNDING, atol=FLOAT32_ROUNDING)


def test_fused_update_makes_old_values_unusable():
    p = parameter(2.0)
    optimizer = SGD([p], lr=0.1)
    loss = (p * p * p).sum()
    p.grad = torch.ones_like(p)
    optimizer.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_fused_operator_refuses_wrong_lists():
    p = torch.zeros(3)
    update = torch.ops.caffe_compat.solver_update_
    rate = torch.tensor(0.1, dtype=torch.float64)
    tail = ([rate], [1.0], [0.0], None, 1.0, False, 0.9, 0.0, 0.0, False)
    with pytest.raises(ValueError, match="rule is Momentum"):
        update("Momentum", [p], [p], [p], [], *tail)
    with pytest.raises(ValueError, match="1 params, 1 grads, 1 first and 0 second histories"):
        update("Adam", [p], [p.clone()], [p.clone()], [], *tail)
    with pytest.raises(ValueError, match=r"grad is Float \[2\] on cpu but param is Float \[3\]"):
        update("SGD", [p], [torch.zeros(2)], [p.clone()], [], *tail)
    with pytest.raises(TypeError, match="expected float32 or float64"):
        update("SGD", [p.half()], [p.half()], [p.half()], [], *tail)
    with pytest.raises(ValueError, match="1 params, 0 rates, 1 lr_mults and 1 decays"):
        update("SGD", [p], [p.clone()], [p.clone()], [], [], *tail[1:])
    with pytest.raises(ValueError, match=r"rate is Float \[\] on cpu; expected one float64 number on cpu"):
        update("SGD", [p], [p.clone()], [p.clone()], [], [rate.float()], *tail[1:])
    with pytest.raises(ValueError, match=r"clip is Float \[3\] on cpu; expected one number"):
        update("SGD", [p], [p.clone()], [p.clone()], [], *tail[:3], p.clone(), *tail[4:])


def parameter(*values: float) -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.tensor(values, dtype=torch.float64))


def test_rate_is_inside_the_history():
    p = parameter(0.0)
    optimizer = SGD([p], lr=1.0, momentum=0.5)
    p.grad = torch.ones_like(p)
    optimizer.step()
    optimizer.param_groups[0]["lr"] = 0.0
    optimizer.step()
    assert p.item() == -1.5  # the old velocity keeps its size though the rate is 0


def test_no_clipping_below_the_norm_nor_when_negative():
    for clip in (5.0, -1.0):
        p = parameter(0.0, 0.0)
        optimizer = SGD([p], lr=1.0, clip_gradients=clip)
        p.grad = torch.tensor([3.0, 4.0], dtype=torch.float64)
        optimizer.step()
        assert p.tolist() == [-3.0, -4.0]


def test_clipping_zero_gradients_makes_no_nan():
    p = parameter(1.0)
    optimizer = SGD([p], lr=1.0, clip_gradients=0.0)
    p.grad = torch.zeros_like(p)
    optimizer.step()
    assert p.item() == 1.0


def test_frozen_parameter_costs_no_history_in_sgd():
    frozen, trained = parameter(1.0), parameter(1.0)
    groups = [{"params": [frozen], "lr_mult": 0.0}, {"params": [trained]}]
    optimizer = SGD(groups, lr=0.1, momentum=0.9, weight_decay=0.1)
    trained.grad = torch.ones_like(trained)
    optimizer.step()
    assert frozen.item() == 1.0
    assert frozen not in optimizer.state
    assert optimizer.histories([frozen, trained])[0].tolist() == [0.0]


def test_frozen_parameter_gathers_decay_in_adagrad():
    """Caffe adds the decayed weight's square to the history even where the rate is 0."""
    frozen = parameter(2.0)
    optimizer = AdaGrad([{"params": [frozen], "lr_mult": 0.0}], lr=0.1, weight_decay=0.5)
    optimizer.step()
    assert frozen.item() == 2.0
    assert optimizer.histories([frozen])[0].tolist() == [1.0]


def test_histories_come_back():
    p, q = parameter(1.0, 2.0), parameter(3.0)
    optimizer = Adam([p, q], lr=0.1)
    p.grad, q.grad = torch.ones_like(p), torch.ones_like(q)
    optimizer.step()
    saved = optimizer.histories([p, q])
    other = Adam([p, q], lr=0.1)
    other.load_histories([p, q], saved)
    for a, b in zip(saved, other.histories([p, q]), strict=True):
        assert torch.equal(a, b)
    other.load_histories([p, q], [torch.zeros_like(h) for h in saved])
    assert not other.state  # nothing to move: as good as new


def test_keep_update_leaves_the_update_in_the_gradient():
    p = parameter(1.0)
    optimizer = SGD([p], lr=0.1, momentum=0.9)
    optimizer.keep_update = True
    p.grad = torch.full_like(p, 2.0)
    optimizer.step()
    assert p.grad.item() == pytest.approx(0.2)
    assert p.item() == pytest.approx(0.8)


def test_works_with_a_torch_scheduler_and_closure():
    p = parameter(4.0)
    optimizer = SGD([p], lr=0.1, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)

    def closure():
        optimizer.zero_grad()
        loss = (p**2).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 16.0
    scheduler.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.05)
    assert p.item() == pytest.approx(4.0 - 0.1 * 8.0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: SGD(p, lr=0.1, regularization_type="L3"), 'regularization_type is "L3"'),
        (lambda p: SGD(p, lr=0.1, iter_size=0), "iter_size is 0"),
        (lambda p: RMSProp(p, lr=0.1, rms_decay=1.0), "rms_decay is 1"),
        (lambda p: Adam(p, lr=0.1, momentum=1.0), "momentum is 1"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(SolverError, match=message):
        make([parameter(1.0)])


@pytest.fixture
def sign_momentum():
    """A user's rule: v = momentum v + (1 - momentum) g, w = (1 - rate * delta) w - rate * sign(v)."""

    @register_rule("SignMomentum")
    class SignMomentum(Rule):
        settings = (Setting("momentum", 0.5, least=0, below=1), Setting("delta", 0.25, least=0))
        refused = ("rms_decay",)

        def compute_update(self, grads, histories, rate, group):
            (velocity,) = histories
            for v, g in zip(velocity, grads, strict=True):
                v.mul_(group["momentum"]).add_(g, alpha=1 - group["momentum"])
            return [rate * v.sign() for v in velocity]

    yield SignMomentum
    del REGISTERED["SignMomentum"]


def test_a_users_rule_by_hand(sign_momentum):
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


def test_a_users_rule_in_a_solver_file(sign_momentum, make_solver):
    """Chosen by its type, with the file's fields, snapshots and an exact continuation."""
    fields = {"type": "SignMomentum", "base_lr": 0.5, "momentum": 0.75, "weight_decay": 0.0, "rms_decay": 0.0}
    solver = make_solver(**fields)
    assert isinstance(solver.optimizer, sign_momentum)
    group = solver.optimizer.param_groups[0]
    assert (group["momentum"], group["delta"]) == (0.75, pytest.approx(1e-8))  # the file's, and SolverParameter's own
    before, gradients = weights(solver), []
    solver.add_callback(on_gradients_ready=lambda s: gradients.append([p.grad.numpy() for p in s.net.parameters()]))
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


def test_a_changed_formula_does_not_run_the_inherited_kernel():
    class Doubled(SGD):
        def compute_update(self, grads, histories, rate, group):
            return [2 * u for u in super().compute_update(grads, histories, rate, group)]

    p = parameter(1.0)
    optimizer = Doubled([p], lr=0.25)
    assert (optimizer.kernel, optimizer.fused) == ("", False)
    p.grad = torch.ones_like(p)
    optimizer.step()
    assert p.item() == 0.5


def test_every_rule_of_ours_is_registered_with_its_kernel():
    ours = {rule.type: rule for rule, _, _ in RULES}
    assert ours == REGISTERED
    assert all(rule.kernel == rule.type for rule in ours.values())


def test_a_taken_name_is_refused():
    with pytest.raises(SolverError, match=r'"SGD" is already registered by caffe_compat\.solver\.rules\.sgd'):
        register_rule("SGD")(Rule)
    assert REGISTERED["SGD"] is SGD
